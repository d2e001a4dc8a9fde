"""A package on its way into MLflow: the logged model, its version, and reading both back."""
