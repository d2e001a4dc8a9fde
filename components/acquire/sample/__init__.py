"""A seed -> a small generated city in the layout of ISPRS Potsdam: georeferenced image, DSM and labels.

Plan (layout) -> paint (ground, lots: buildings, foliage, cars, clutter; materials and noise) -> photograph (light),
surface model (dsm), labels -> files (city). Some classes share colours or heights on purpose, see `materials`.
"""
