"""The cluster and training on several nodes; no other package knows Kubernetes."""
