"""Blended scores -> working files -> Cloud-Optimized GeoTIFFs with style, tags and summary."""
