"""Predict: a model and a raster of any size -> a map as a Cloud-Optimized GeoTIFF."""
