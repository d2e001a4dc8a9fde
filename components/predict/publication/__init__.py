"""Scenes of a cluster run: planned, mapped in parts, and published with a STAC item and a page."""
