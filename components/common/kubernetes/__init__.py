"""Kubernetes: training on several nodes. No other package uses Kubernetes."""
