"""MLflow: runs, metrics, and the code and data version of a run."""
