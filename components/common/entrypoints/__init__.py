"""How a step is started: by DVC on the command line, or by Kubeflow as a task."""
