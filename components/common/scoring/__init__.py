"""From confusion matrices to figures."""
