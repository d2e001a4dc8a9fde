"""Apply a trained network to rasters."""
