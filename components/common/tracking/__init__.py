"""MLflow: runs, metrics, and where a run's code and data came from."""
