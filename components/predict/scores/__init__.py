"""Windows of a raster -> blended scores, in bands of rows."""
