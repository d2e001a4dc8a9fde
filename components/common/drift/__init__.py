"""Drift: statistics of windows under a model, and how far those of production are from those of validation."""
