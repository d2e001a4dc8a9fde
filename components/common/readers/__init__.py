"""A raster of any kind on the grid of its tile's image; used by check, preprocess and predict."""
