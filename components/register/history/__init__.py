"""The versions, aliases and history of one registered model in MLflow, and every change of an alias."""
