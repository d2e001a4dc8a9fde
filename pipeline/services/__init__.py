"""The servers of a team on one machine, without containers: MLflow with accounts, PostgreSQL and an S3 store."""
