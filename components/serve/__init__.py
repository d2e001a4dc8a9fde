"""Serve: a trained model as a web service, or as a Python function that MLflow loads."""
