"""Checkers of the set as a whole: copies, tiles of two subsets on the same ground, shares of the classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from components.check.config import Subject
from components.check.findings import Finding, finding
from components.check.places import Placed, placed
from components.common.data import datasets
from components.common.data.datasets import FileKind
from components.common.readers.rasters import same_crs

TOUCH_PX = 1.0
"""Footprints may overlap by this much: two tiles that share a line of pixels' edges, rounded."""

LARGE_SHARE = 0.05
"""From this share of the smaller tile on, scores on one tile say something about the other."""

SIGMAS = 3.0
"""Class shares of a part of the tiles may lie so many standard errors off those of all."""


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Files of two tiles with the same pixels; a constant one is somebody else's finding."""
    first: dict[tuple[FileKind, str], str] = {}
    for tile, facts in subject.tiles.items():
        for kind, pixels in facts.pixels.items():
            if pixels.constant:
                continue
            other = first.setdefault((kind, pixels.sha256), tile)
            place, others = facts.places[kind], subject.tiles[other].places[kind]
            if other != tile and place != others:
                sentence = (
                    f"has the same pixels as {others}; one of the two tiles is a copy{_subsets(subject, tile, other)}"
                )
                yield finding("duplicate", sentence, tile, place)


def same_files(subject: Subject) -> Iterator[Finding]:
    """Two ids of a split that mean one image, such as 2_10 and 02_10."""
    for split in subject.splits:
        first: dict[str | None, str] = {}
        for tile in split.tiles:
            place = subject.dataset.path("image", tile)
            other = first.setdefault(place, tile)
            if other != tile:
                sentence = f"and {other} are one image, listed twice in the split {split.name}"
                yield finding("same-file", sentence, tile, place)


def overlaps(subject: Subject) -> Iterator[Finding]:
    """Tiles of different subsets whose footprints share ground."""
    found = list(placed(subject).values())
    boxes_N4 = np.array([_box(place) for place in found]).reshape(-1, 4)
    for number, one in enumerate(found):
        low, high = boxes_N4[number, :2], boxes_N4[number, 2:]
        later_n4 = boxes_N4[number + 1 :]
        near_n = np.hstack([later_n4[:, :2] < high, later_n4[:, 2:] > low]).all(axis=1)
        for index in np.flatnonzero(near_n):
            yield from _overlap(subject, one, found[number + 1 + index])


def class_shares(subject: Subject) -> Iterator[Finding]:
    """Shares of the classes against the known ones.

    Of all tiles they must agree to rounding. Of a part, each share may be off by what a random part of this size would
    be: the spread between tiles, with the correction for a finite number of tiles.
    """
    known = subject.dataset.class_shares
    counts_NK = np.array([facts.label.class_px for facts in subject.tiles.values() if facts.label], float)
    if known is None or not counts_NK.size or not counts_NK.sum():
        return
    shares_K = 100 * counts_NK.sum(0) / counts_NK.sum()
    error_K = _sampling_error(counts_NK, len(datasets.tiles(subject.dataset.name)))
    limit_K = subject.limits.max_class_share_deviation + SIGMAS * error_K
    for c, share, expected, limit in zip(subject.dataset.classes, shares_K, known, limit_K, strict=True):
        if abs(share - expected) > limit:
            sentence = (
                f"{c.name} has {share:.1f} % of the labelled pixels of {len(counts_NK)} tiles, {expected:.1f} % is "
                f"known; more than {limit:.1f} percent points apart"
            )
            yield finding("class-shares", sentence)


def _sampling_error(counts_NK: npt.NDArray[np.float64], all_tiles: int) -> npt.NDArray[np.float64]:
    """Standard error of the shares of some tiles, drawn out of all, percent points."""
    tiles = len(counts_NK)
    if tiles < 2 or tiles >= all_tiles:
        return np.full(counts_NK.shape[1], 0.0 if tiles >= all_tiles else 100.0)
    shares_NK = 100 * counts_NK / counts_NK.sum(1, keepdims=True).clip(1)
    return np.asarray(shares_NK.std(0, ddof=1) / np.sqrt(tiles) * np.sqrt(1 - tiles / all_tiles))


def _overlap(subject: Subject, one: Placed, other: Placed) -> Iterator[Finding]:
    apart = _splits_apart(subject, one.tile, other.tile)
    if not apart or (one.grid.crs and other.grid.crs and not same_crs(one.grid.crs, other.grid.crs)):
        return
    wide_px, high_px = _shared(one, other)
    if min(wide_px, high_px) <= TOUCH_PX:
        return
    area = min(place.grid.width_px * place.grid.height_px for place in (one, other))
    share = wide_px * high_px / area
    sentence = (
        f"shares {wide_px:.1f} x {high_px:.1f} px of ground ({100 * share:.2g} % of the smaller tile) with tile "
        f"{other.tile}, which is in another subset ({apart}); scores would be too good"
    )
    yield finding("overlap-large" if share > LARGE_SHARE else "overlap", sentence, one.tile, one.file)


def _shared(one: Placed, other: Placed) -> tuple[float, float]:
    """Width and height of what two tiles share, in pixels of the first; exact for tiles turned alike."""
    to_one = ~one.transform @ other.transform
    sides = other.grid.width_px, other.grid.height_px
    corners = np.array([to_one @ (x, y) for x in (0.0, sides[0]) for y in (0.0, sides[1])])
    low, high = corners.min(0).clip(0), np.minimum(corners.max(0), (one.grid.width_px, one.grid.height_px))
    wide_px, high_px = (high - low).clip(0).tolist()
    return wide_px, high_px


def _box(place: Placed) -> tuple[float, float, float, float]:
    """Smallest and largest coordinates of a tile on the map."""
    sides = place.grid.width_px, place.grid.height_px
    corners = np.array([place.transform @ (x, y) for x in (0.0, sides[0]) for y in (0.0, sides[1])])
    return *corners.min(0).tolist(), *corners.max(0).tolist()


def _splits_apart(subject: Subject, one: str, other: str) -> str:
    """The splits that have two tiles in different subsets, in words; empty: none."""
    apart = [
        f"{split.name}: {split.subset_of(one)} and {split.subset_of(other)}"
        for split in subject.splits
        if one in split.tiles and other in split.tiles and split.subset_of(one) != split.subset_of(other)
    ]
    return "; ".join(apart)


def _subsets(subject: Subject, one: str, other: str) -> str:
    apart = _splits_apart(subject, one, other)
    return f", and they are in different subsets ({apart})" if apart else ""
