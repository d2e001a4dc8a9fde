"""Store -> the best balanced-fusion checkpoint and its history."""
