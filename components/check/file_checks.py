"""Checkers of the files: what the reader reports about them, and which are missing."""

from __future__ import annotations

from collections.abc import Iterator

from components.check.config import Subject
from components.check.findings import CODES, Finding, finding
from components.check.sources import GENERATED
from components.common.data.rawtree import sensors_of

KNOWN_TROUBLE = {
    ("potsdam", "7_10"): "one source reports that its label is wrong in places",
}
"""What has been reported about single tiles of public data sets."""


def reported(subject: Subject) -> Iterator[Finding]:
    """What the reader rejects, repairs or notes, in its own words."""
    for tile, facts in subject.tiles.items():
        for found in facts.reported.values():
            for one in found:
                severity = "error" if one.rejected else CODES[one.code].severity
                yield Finding(one.code, severity, tile, one.file, one.sentence)


def missing_files(subject: Subject) -> Iterator[Finding]:
    """Tiles that have some of their files, but lack a label, have neither image nor DSM, or have a damaged one."""
    for tile, facts in subject.tiles.items():
        if not facts.places:
            continue
        damaged, sensors = subject.unreadable.get(tile, ()), sensors_of(subject.dataset, facts.places)
        needed = [split.name for split in subject.splits if tile in split.tiles]
        by = f", needed by the split{'s' * (len(needed) > 1)} {', '.join(needed)}" if needed else ""
        for kind in (kind for kind in subject.kinds() if kind not in facts.places):
            place = subject.dataset.path(kind, tile)
            if kind in damaged:
                sentence = f"the {kind} of the tile cannot be read and was left out by the import{by}; it is {place}"
                yield finding("file-missing", sentence, tile)
            elif kind in ("label", "eroded"):
                yield finding("file-missing", f"the tile has no {kind}{by}; looked for {place}", tile)
            elif not sensors:
                sentence = f"the tile has neither an image nor a DSM of its own{by}; looked for {place}"
                yield finding("file-missing", sentence, tile)


def missing_tiles(subject: Subject) -> Iterator[Finding]:
    """Tiles of a split that have no file."""
    for split in subject.splits:
        gone = [tile for tile in split.tiles if tile not in subject.tiles or not subject.tiles[tile].places]
        if subject.chosen:
            for tile in gone:
                sentence = f"has no file; the split {split.name} has it in {split.subset_of(tile)}"
                if subject.dataset.name == GENERATED:
                    sentence += " and needs a sample with more tiles; set sample.tiles"
                yield finding("tile-missing", sentence, tile)
        elif gone and subject.dataset.name != GENERATED:  # a smaller sample lacks nothing
            shown = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            sentence = f"{len(gone)} of the {len(split.tiles)} tiles of the split {split.name} have no file: {shown}"
            yield finding("split-incomplete", sentence)


def known_trouble(subject: Subject) -> Iterator[Finding]:
    """Tiles with a reputation."""
    for tile, facts in subject.tiles.items():
        sentence = KNOWN_TROUBLE.get((subject.dataset.name, tile))
        if sentence and "label" in facts.places:
            yield finding("wrongly-annotated", sentence, tile, facts.places["label"])
