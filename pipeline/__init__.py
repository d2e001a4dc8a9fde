"""Orchestration of the steps, and the command line `mobanet`. It imports components; components never import it."""

__version__ = "0.1.0"
