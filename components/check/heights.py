"""Checkers of the heights: are they there, in metres, and relative to what the data set says?"""

from __future__ import annotations

from collections.abc import Iterator

from components.check.config import Subject
from components.check.facts import DsmFacts, TileFacts
from components.check.findings import Finding, finding
from components.common.data.heights import PLAUSIBLE_M

HIGH = ("building", "house", "roof")
LOW = ("impervious", "road", "vegetation", "grass", "ground", "soil")
"""Words in the names of classes: what stands out, and what lies on the ground."""

BUILDING_M = (0.3, 50.0)
"""Height of the buildings of a tile above its roads and lawns; beyond, the unit is in doubt."""

FLAT_M = 2.0
"""A tile with so little relief has no building in it, whatever its label says."""

STEEP_M = 200.0
"""A relief below this is never too much; above, it is if the tile is narrower than it is high."""

GROUND_M = 0.5
"""With heights above ground, a quarter of the pixels lies within this."""

LOWEST_M = 3.0
"""With heights above ground, some pixel lies lower than this."""

SATURATED_SHARE = 0.01


def presence(subject: Subject) -> Iterator[Finding]:
    """Heights that are missing, all or in part, and those that are all the same."""
    mosaic = subject.dataset.one_for_all("dsm")  # may have gaps between the tiles
    limit = 1.0 if mosaic else subject.limits.max_dsm_missing_share
    for tile, facts, dsm in _tiles(subject):
        missing = facts.pixels["dsm"].missing_share + dsm.implausible_share
        place = facts.places["dsm"]
        if dsm.median_m is None:
            yield finding("dsm-blank", _why_blank(facts, dsm), tile, place)
        elif facts.pixels["dsm"].constant:
            sentence = f"is {dsm.median_m:.2f} m high everywhere; copy or download it again"
            yield finding("dsm-constant", sentence, tile, place)
        elif missing > limit:
            sentence = (
                f"{100 * missing:.1f} % of its heights are missing, more than {100 * limit:g} % "
                "(check.max_dsm_missing_share); leave the tile out of the split or raise the limit"
            )
            yield finding("dsm-missing", sentence, tile, place)
        elif missing > 0:
            yield finding("dsm-holes", f"{100 * missing:.3g} % of its heights are missing; masked", tile, place)


def outliers(subject: Subject) -> Iterator[Finding]:
    """Heights far beyond the rest of the tile."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.outlier_px and dsm.low_m is not None and dsm.high_m is not None:
            sentence = (
                f"{dsm.outlier_px} px are far beyond {dsm.low_m:.2f} to {dsm.high_m:.2f} m, where 99.8 % of its "
                f"heights lie (the file's values are {_span(facts)}); they set no scale and are limited"
            )
            yield finding("dsm-outliers", sentence, tile, facts.places["dsm"])


def saturation(subject: Subject) -> Iterator[Finding]:
    """Heights cut off at the largest value of the file's type, as in 8 bit files of heights above ground."""
    unit_m = subject.dataset.dsm.unit_m
    for tile, facts, dsm in _tiles(subject):
        if dsm.saturated_share > SATURATED_SHARE:
            top_m = (facts.pixels["dsm"].highest or 0) * unit_m
            sentence = f"{100 * dsm.saturated_share:.1f} % of its heights are {top_m:g} m, which means that or more"
            yield finding("dsm-saturated", sentence, tile, facts.places["dsm"])


def units(subject: Subject) -> Iterator[Finding]:
    """Heights in another unit than metres: buildings too high or too low, or a relief steeper than any town."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.low_m is None or dsm.high_m is None or facts.pixels["dsm"].constant:
            continue
        relief_m = dsm.high_m - dsm.low_m
        above_m = _buildings_above_ground(subject, dsm)
        header = facts.files["dsm"]
        side_m = max(header.width_px, header.height_px) * subject.dataset.gsd_m
        sentence = None
        if above_m is not None and above_m > BUILDING_M[1]:
            sentence = f"its buildings are {above_m:.0f} m high; are the heights in {_unit(above_m)}?"
        elif above_m is not None and above_m < -relief_m / 4 and relief_m > FLAT_M:
            sentence = f"its buildings lie {-above_m:.0f} m below its roads and lawns; are the heights upside down?"
        elif above_m is not None and above_m < BUILDING_M[0] and relief_m < FLAT_M:
            sentence = f"its buildings are {above_m:.2f} m high; are the heights in metres?"
        elif above_m is None and relief_m > max(STEEP_M, side_m):
            sentence = f"its relief is {relief_m:.0f} m on {side_m:.0f} m of ground; are the heights in metres?"
        if sentence:
            yield finding(
                "dsm-units", f"{sentence} unit_m in dataset.yaml says what they are", tile, facts.places["dsm"]
            )


def reference(subject: Subject) -> Iterator[Finding]:
    """Heights above ground where absolute ones are expected, and the other way round."""
    for tile, facts, dsm in _tiles(subject):
        if dsm.low_m is None or dsm.quarter_m is None or facts.pixels["dsm"].constant:
            continue
        place = facts.places["dsm"]
        if subject.dataset.dsm.relative_to == "datum" and abs(dsm.quarter_m) < GROUND_M and dsm.low_m > -2 * GROUND_M:
            sentence = "a quarter of its heights are about 0: is it normalised, where absolute heights are expected?"
            yield finding("dsm-normalised", sentence, tile, place)
        elif subject.dataset.dsm.relative_to == "ground" and dsm.low_m > LOWEST_M:
            sentence = f"no height is below {dsm.low_m:.1f} m: is it absolute, where heights above ground are expected?"
            yield finding("dsm-absolute", sentence, tile, place)


def _tiles(subject: Subject) -> Iterator[tuple[str, TileFacts, DsmFacts]]:
    for tile, facts in subject.tiles.items():
        if facts.dsm is not None and "dsm" in facts.pixels:
            yield tile, facts, facts.dsm


def _why_blank(facts: TileFacts, dsm: DsmFacts) -> str:
    if dsm.implausible_share > 0:
        low, high = PLAUSIBLE_M
        return (
            f"holds no height: its values are {_span(facts)}, none is within {low:g} to {high:g} m; are they in "
            "another unit (unit_m in dataset.yaml), or a nodata value that the file does not name?"
        )
    return "holds no height: every pixel is marked as missing; copy or download it again"


def _span(facts: TileFacts) -> str:
    pixels = facts.pixels["dsm"]
    return f"{pixels.lowest:g} to {pixels.highest:g}" if pixels.lowest is not None else "missing"


def _unit(above_m: float) -> str:
    return "decimetres" if above_m < 10 * BUILDING_M[1] else "centimetres"


def _buildings_above_ground(subject: Subject, dsm: DsmFacts) -> float | None:
    """Height of what stands out above what lies on the ground, by the names of the classes; None: not known."""
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
