"""Register step: package, reports/evaluation.json -> a model version in MLflow, the champion if it passes the gates."""
