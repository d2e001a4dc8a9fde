"""package, reports/evaluation.json -> MLflow: a model version with its figures, and the champion if it is better."""
