"""Scores of a network: confusion matrices, accuracy and balance figures, pictures."""
