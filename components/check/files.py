"""Checkers: is every file there, and can it be read?"""

from __future__ import annotations

from collections.abc import Iterator

from components.check.config import Subject
from components.check.findings import Finding, finding

KNOWN_TROUBLE = {
    ("potsdam", "7_10"): (
        "one source reports that its label is wrong in places; look at it, or use the split official-minus-7_10"
    )
}
"""What has been reported about single tiles of public data sets."""


def troubles(subject: Subject) -> Iterator[Finding]:
    """What went wrong while a file was opened or read."""
    for tile, facts in subject.tiles.items():
        for kind, found in facts.troubles.items():
            for trouble in found:
                yield finding(trouble.code, trouble.sentence, tile, facts.places[kind])


def missing_files(subject: Subject) -> Iterator[Finding]:
    """Tiles of which some files are there and others not."""
    for tile, facts in subject.tiles.items():
        for kind in subject.kinds():
            if facts.places and kind not in facts.places:
                needed = [split.name for split in subject.splits if tile in split.tiles]
                by = f", needed by the split{'s' * (len(needed) > 1)} {', '.join(needed)}" if needed else ""
                place = subject.dataset.path(kind, tile)
                yield finding("file-missing", f"the tile has no {kind}{by}; looked for {place}", tile)


def missing_tiles(subject: Subject) -> Iterator[Finding]:
    """Tiles of a split of which nothing is there."""
    for split in subject.splits:
        gone = [tile for tile in split.tiles if tile not in subject.tiles or not subject.tiles[tile].places]
        if subject.chosen:
            for tile in gone:
                sentence = f"no file of it is there, and the split {split.name} has it in {split.subset_of(tile)}"
                yield finding("tile-missing", sentence, tile)
        elif gone:
            shown = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            sentence = f"{len(gone)} of the {len(split.tiles)} tiles of the split {split.name} are not there: {shown}"
            yield finding("split-incomplete", sentence)


def known_trouble(subject: Subject) -> Iterator[Finding]:
    """Tiles with a reputation."""
    for tile, facts in subject.tiles.items():
        sentence = KNOWN_TROUBLE.get((subject.dataset.name, tile))
        if sentence and "label" in facts.places:
            yield finding("wrongly-annotated", sentence, tile, facts.places["label"])
