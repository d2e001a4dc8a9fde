"""Checkers of the labels: are they labels, and do the full and the eroded one agree?"""

from __future__ import annotations

from collections.abc import Iterator

from components.check.config import Subject
from components.check.facts import LabelFacts, TileFacts
from components.check.findings import Finding, finding
from components.common.data.datasets import FileKind

FOREIGN_SHARE = 0.5
"""Most pixels of a label picture are near a colour of the legend, however lossy its format; few of an image are."""

ERODED_BOUNDARIES = 0.1
"""An eroded label has hardly any pixel next to another class; one with this share of the full label's is full."""


def legend(subject: Subject) -> Iterator[Finding]:
    """Pictures that are no labels."""
    for tile, kind, facts, label in _labels(subject):
        if _foreign(label):
            sentence = (
                f"{label.foreign_px:,} px ({100 * label.foreign_px / label.all_px:.3g} %) are nowhere near a colour of "
                "a class, as in an image or with another legend"
            )
            yield finding("label-foreign", sentence, tile, facts.places[kind])


def classes_there(subject: Subject) -> Iterator[Finding]:
    """Labels without a class, or with a single one."""
    for tile, kind, facts, label in _labels(subject):
        there = [c.name for c, px in zip(subject.dataset.classes, label.class_px, strict=True) if px]
        if _foreign(label) or facts.rejected(kind):
            continue
        if not there:
            yield finding("label-blank", "holds no class at all", tile, facts.places[kind])
        elif len(there) == 1 and kind == "label":
            yield finding("label-constant", f"holds nothing but {there[0]}", tile, facts.places[kind])


def boundaries(subject: Subject) -> Iterator[Finding]:
    """A full label where the eroded one should be, or the reverse."""
    for tile, facts in subject.tiles.items():
        full, eroded = facts.label, facts.eroded
        if full is not None and not full.boundary_px and full.ignored_px and _classes(full) > 1:
            sentence = "no two classes touch, as in an eroded label (noBoundary): scores would be too good"
            yield finding("label-eroded", sentence, tile, facts.places["label"])
        elif full is not None and eroded is not None and full.boundary_px:
            if eroded.boundary_px > ERODED_BOUNDARIES * full.boundary_px:
                sentence = "classes touch as in the full label: scores would be too low"
                yield finding("eroded-full", sentence, tile, facts.places["eroded"])


def agreement(subject: Subject) -> Iterator[Finding]:
    """Pixels with different classes in the full and the eroded label."""
    limit = subject.limits.max_disagreement_share
    for tile, facts in subject.tiles.items():
        eroded = facts.eroded
        if eroded is None or eroded.differing_px <= limit * eroded.compared_px:
            continue
        sentence = (
            f"{100 * eroded.differing_px / eroded.compared_px:.3g} % of its pixels have another class than in the full "
            f"label, more than {100 * limit:g} %"
        )
        yield finding("eroded-differs", sentence, tile, facts.places["eroded"])


def _labels(subject: Subject) -> Iterator[tuple[str, FileKind, TileFacts, LabelFacts]]:
    for tile, facts in subject.tiles.items():
        if facts.label is not None:
            yield tile, "label", facts, facts.label
        if facts.eroded is not None:
            yield tile, "eroded", facts, facts.eroded


def _classes(label: LabelFacts) -> int:
    return sum(px > 0 for px in label.class_px)


def _foreign(label: LabelFacts) -> bool:
    return label.foreign_px > FOREIGN_SHARE * label.all_px
