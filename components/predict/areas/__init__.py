"""A class map -> polygons."""
