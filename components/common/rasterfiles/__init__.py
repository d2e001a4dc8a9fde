"""A raster file of any kind, on disk or remote, and where it lies on the ground."""
