"""Checkers of the set as a whole: copies, tiles of two subsets on the same ground, class shares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from components.check.config import Subject
from components.check.findings import Finding, finding
from components.check.places import placed
from components.common.data import datasets
from components.common.data.datasets import FileKind
from components.common.readers.footprints import neighbours, shared_ground

LARGE_SHARE = 0.05
"""From this share of the smaller tile on, an overlap is an error: training sees test ground."""

SIGMAS = 3.0
"""Class shares of a part of the tiles may lie this many standard errors off those of all."""


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Layers of two tiles with the same pixels; constant ones have a finding of their own."""
    first: dict[tuple[FileKind, str], str] = {}
    for tile, facts in subject.tiles.items():
        for kind, pixels in facts.pixels.items():
            if pixels.constant:
                continue
            other = first.setdefault((kind, pixels.sha256), tile)
            place, others = facts.places[kind], subject.tiles[other].places[kind]
            if other != tile and place != others:
                sentence = f"has the same pixels as {others}{_subsets(subject, tile, other)}"
                yield finding("duplicate", sentence, tile, place)


def same_files(subject: Subject) -> Iterator[Finding]:
    """Two ids of a split that stand for one image, such as 2_10 and 02_10."""
    for split in subject.splits:
        first: dict[str | None, str] = {}
        for tile in split.tiles:
            place = subject.dataset.path("image", tile)
            other = first.setdefault(place, tile)
            if other != tile:
                sentence = f"is also the image of tile {other} in the split {split.name}"
                yield finding("same-file", sentence, tile, place)


def overlaps(subject: Subject) -> Iterator[Finding]:
    """Tiles of different subsets whose footprints share ground, also in different reference systems."""
    known = list(placed(subject).values())
    for first, second in sorted(neighbours([place.grid for place in known])):
        one, other = known[first], known[second]
        if not (apart := _splits_apart(subject, one.tile, other.tile)):
            continue
        area_m2, share = shared_ground(one.grid, other.grid)
        if share:
            sentence = (
                f"shares {area_m2:.4g} m2 of ground ({100 * share:.2g} % of the smaller tile) with tile {other.tile}, "
                f"which is in another subset ({apart}); scores would be too good"
            )
            yield finding("overlap-large" if share > LARGE_SHARE else "overlap", sentence, one.tile, one.file)


def class_shares(subject: Subject) -> Iterator[Finding]:
    """Class shares against the known ones.

    For all tiles they must agree within the limit. For a part of the tiles, each share may also differ by the sampling
    error: the spread between tiles, with the correction for a finite population.
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
                f"{c.name} has {share:.1f} % of the labelled pixels of {len(counts_NK)} tiles, expected "
                f"{expected:.1f} % +- {limit:.1f} percentage points"
            )
            yield finding("class-shares", sentence)


def _sampling_error(counts_NK: npt.NDArray[np.float64], all_tiles: int) -> npt.NDArray[np.float64]:
    """Standard error of the class shares of a sample of the tiles, percentage points."""
    tiles = len(counts_NK)
    if tiles < 2 or tiles >= all_tiles:
        return np.full(counts_NK.shape[1], 0.0 if tiles >= all_tiles else 100.0)
    shares_NK = 100 * counts_NK / counts_NK.sum(1, keepdims=True).clip(1)
    return np.asarray(shares_NK.std(0, ddof=1) / np.sqrt(tiles) * np.sqrt(1 - tiles / all_tiles))


def _splits_apart(subject: Subject, one: str, other: str) -> str:
    """The splits that have two tiles in different subsets, for a sentence; empty: none."""
    apart = [
        f"{split.name}: {split.subset_of(one)} and {split.subset_of(other)}"
        for split in subject.splits
        if one in split.tiles and other in split.tiles and split.subset_of(one) != split.subset_of(other)
    ]
    return "; ".join(apart)


def _subsets(subject: Subject, one: str, other: str) -> str:
    apart = _splits_apart(subject, one, other)
    return f", and they are in different subsets ({apart})" if apart else ""
