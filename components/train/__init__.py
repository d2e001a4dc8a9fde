"""Train on the store: writes the selected checkpoint and the histories of loss and validation."""
