"""The checkpoints of a run: their files, the thread that writes them, and what a resumed run reads."""
