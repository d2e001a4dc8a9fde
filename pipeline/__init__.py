"""Orchestration of the steps, and the command line `mobanet`. Knows components; components do not know it."""

__version__ = "0.1.0"
