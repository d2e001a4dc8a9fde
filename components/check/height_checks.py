"""Checkers of the heights: do they exist, in metres, and relative to what dataset.yaml states?"""

from __future__ import annotations

from collections.abc import Iterator

from components.check.config import Subject
from components.check.facts import DsmFacts, TileFacts
from components.check.findings import Finding, finding
from components.common.readers.footprints import pixel_size_m

HIGH = ("building", "house", "roof")
LOW = ("impervious", "road", "vegetation", "grass", "ground", "soil")
"""Words in the names of classes: buildings, and what lies on the ground."""

BUILDING_M = (0.3, 50.0)
"""Usual height of the buildings of a tile above its roads and lawns; beyond, the unit is in doubt."""

FLAT_M = 2.0
"""A tile with less relief has no building."""

STEEP_M = 200.0
"""Relief up to this is plausible; above, it must be less than the side of the tile."""

GROUND_M = 0.5
"""In a file of heights above ground, a quarter of the pixels lies within this."""

LOWEST_M = 3.0
"""In a file of heights above ground, some pixel lies lower than this."""

SATURATED_SHARE = 0.01


def presence(subject: Subject) -> Iterator[Finding]:
    """Heights of which too many are missing, and those that are all the same."""
    limit = subject.limits.max_dsm_missing_share
    for tile, facts, _ in _tiles(subject):
        pixels, place = facts.pixels["dsm"], facts.places["dsm"]
        if pixels.lowest is None:  # the reader reports it
            continue
        if pixels.constant and (pixels.lowest != 0 or subject.dataset.dsm.relative_to != "ground"):
            yield finding("dsm-constant", f"is {pixels.lowest:.2f} m high everywhere", tile, place)
        elif pixels.missing_share > limit:
            sentence = f"{100 * pixels.missing_share:.1f} % of its heights are missing, more than {100 * limit:g} %"
            yield finding("dsm-missing", sentence, tile, place)


def outliers(subject: Subject) -> Iterator[Finding]:
    """Heights far beyond the rest of the tile."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.outlier_px and dsm.low_m is not None and dsm.high_m is not None:
            pixels = facts.pixels["dsm"]
            sentence = (
                f"{dsm.outlier_px:,} px are far beyond {dsm.low_m:.2f} to {dsm.high_m:.2f} m, where 99.8 % of its "
                f"heights lie (all: {pixels.lowest:.2f} to {pixels.highest:.2f} m)"
            )
            yield finding("dsm-outliers", sentence, tile, facts.places["dsm"])


def saturation(subject: Subject) -> Iterator[Finding]:
    """Heights cut off at the largest value of the file's type, as in 8-bit files of heights above ground."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.saturated_share > SATURATED_SHARE:
            share = f"{100 * dsm.saturated_share:.1f} % of its heights"
            sentence = f"{share} are {dsm.top_m:g} m, the largest value of the file's type: they may be higher"
            yield finding("dsm-saturated", sentence, tile, facts.places["dsm"])


def units(subject: Subject) -> Iterator[Finding]:
    """Heights in another unit than metres: buildings too high or too low, or a relief steeper than any town."""
    for tile, facts, dsm in _tiles(subject):
        if facts.grid is None or dsm.low_m is None or dsm.high_m is None or facts.pixels["dsm"].constant:
            continue
        side_m = max(facts.grid.width_px, facts.grid.height_px) * _pixel_m(subject, facts)
        if sentence := _odd_unit(dsm.high_m - dsm.low_m, _buildings_above_ground(subject, dsm), side_m):
            yield finding("dsm-units", sentence, tile, facts.places["dsm"])


def _odd_unit(relief_m: float, above_m: float | None, side_m: float) -> str | None:
    """Why heights seem to be in another unit; None: they seem to be metres.

    Args:
        relief_m: of the tile.
        above_m: height of its buildings above its roads and lawns; None: unknown.
        side_m: longer side of the tile on the ground.
    """
    if above_m is None:
        if relief_m > max(STEEP_M, side_m):
            return f"its relief is {relief_m:.0f} m on {side_m:.0f} m of ground, as if they were in another unit"
        return None
    if above_m > BUILDING_M[1]:
        unit = "decimetres" if above_m < 10 * BUILDING_M[1] else "centimetres"
        return f"its buildings are {above_m:.0f} m high, as if the heights were in {unit}"
    if above_m < -relief_m / 4 and relief_m > FLAT_M:
        return f"its buildings lie {-above_m:.0f} m below its roads and lawns, as if depths were given"
    if above_m < BUILDING_M[0] and relief_m < FLAT_M:
        return f"its buildings are {above_m:.2f} m high, as if the heights were in a larger unit"
    return None


def reference(subject: Subject) -> Iterator[Finding]:
    """Heights above ground where absolute ones are expected, or the reverse."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.low_m is None or dsm.quarter_m is None or facts.pixels["dsm"].constant:
            continue
        place = facts.places["dsm"]
        if subject.dataset.dsm.relative_to == "datum" and abs(dsm.quarter_m) < GROUND_M and dsm.low_m > -2 * GROUND_M:
            sentence = "a quarter of its heights are about 0, like heights above the ground"
            yield finding("dsm-normalised", sentence, tile, place)
        elif subject.dataset.dsm.relative_to == "ground" and dsm.low_m > LOWEST_M:
            sentence = f"no height is below {dsm.low_m:.1f} m, unlike heights above the ground"
            yield finding("dsm-absolute", sentence, tile, place)


def _tiles(subject: Subject) -> Iterator[tuple[str, TileFacts, DsmFacts]]:
    for tile, facts in subject.tiles.items():
        if facts.dsm is not None and "dsm" in facts.pixels:
            yield tile, facts, facts.dsm


def _pixel_m(subject: Subject, facts: TileFacts) -> float:
    """Side of a pixel on the ground, metres."""
    size = pixel_size_m(facts.grid) if facts.grid is not None else None
    return max(size) if size else subject.dataset.gsd_m


def _buildings_above_ground(subject: Subject, dsm: DsmFacts) -> float | None:
    """Height of buildings above the ground, by the names of the classes; None: unknown."""
    by_words = []
    for words in (HIGH, LOW):
        pairs = zip(subject.dataset.classes, dsm.class_medians_m, strict=True)
        medians = [
            height for c, height in pairs if height is not None and any(word in c.name.lower() for word in words)
        ]
        if not medians:
            return None
        by_words.append(sum(medians) / len(medians))
    return by_words[0] - by_words[1]
