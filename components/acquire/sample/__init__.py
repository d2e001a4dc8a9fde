"""A seed -> a small generated city, written as ISPRS Potsdam is: image, DSM and labels, georeferenced.

plan (layout) -> paint (ground, lots: buildings, foliage, cars, clutter; materials and noise) -> photograph (light),
surface model (dsm), labels -> files (city). Colours and heights are shared between classes on purpose, see `materials`.
"""
