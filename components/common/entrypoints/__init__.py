"""Entry points of a step: the command line, which DVC uses, and the Kubeflow task."""
