"""`mobanet bench`: how fast the pipeline is, measured on this machine."""
