"""Sets of parameters for common tasks, as data: `params.yaml` as shipped, and one file per preset with its changes."""
