"""Every mutator by what it is called, and how often it is used; with the number of a case, the name is its seed."""

from __future__ import annotations

from tests.mutations import archives, content, layout, place, records, values

TILES = {
    "truncated": (content.truncated, 24),
    "header bits": (content.header_bits, 40),
    "data bits": (content.data_bits, 20),
    "noise run": (content.noise_run, 16),
    "tail added": (content.tail_added, 4),
    "empty": (content.empty, 4),
    "text": (content.text, 8),
    "other format": (content.other_format, 6),
    "tags": (content.tags, 30),
    "pixel type": (layout.pixel_type, 12),
    "size": (layout.size, 14),
    "bands": (layout.bands, 8),
    "band order": (layout.band_order, 6),
    "exchanged": (layout.exchanged, 8),
    "of another tile": (layout.of_another_tile, 8),
    "gone": (layout.gone, 8),
    "reference system": (place.reference_system, 10),
    "shifted": (place.shifted, 14),
    "distorted": (place.distorted, 14),
    "colours": (values.colours, 8),
    "legend": (values.legend, 10),
    "no heights": (values.no_heights, 8),
    "unit": (values.unit, 8),
    "wild heights": (values.wild_heights, 8),
    "black": (values.black, 6),
}
"""Mutators of a tile, and how often each is used."""

MAY_HIDE = {"data bits", "noise run", "header bits", "tags"}
"""A changed pixel that is still a possible one cannot be told from another measurement."""

RECORDS = {"record text": (records.record_text, 14), "record value": (records.record_value, 30)}
FACTS = {"facts text": ("dataset.yaml", 20), "split text": ("official.yaml", 14)}

ARCHIVES = {
    "archive bytes": (archives.archive_bytes, 24),
    "archive of nothing": (archives.archive_of_nothing, 6),
    "archive with": (archives.archive_with, 12),
    "archive bomb": (archives.archive_bomb, 8),
    "archive fields": (archives.archive_fields, 14),
}
