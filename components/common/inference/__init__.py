"""A trained network applied to rasters."""
