"""Check before a training that its tiles have labelled pixels: what is not labelled is neither learned nor scored."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Literal

import numpy as np

from components.common.data.store import Store, TileEntry
from components.common.errors import StoreError

log = logging.getLogger(__name__)

BAND_PX = 1 << 22
"""Pixels that are searched at a time; the search ends as soon as every class is found."""


def require_labelled_pixels(store: Store, labels: Literal["full", "eroded"]) -> None:
    """Check the tiles of every subset; test tiles are not opened.

    A class that counts in the mean IoU and has no pixel in the training or validation tiles is a warning. So are test
    tiles without a pixel of a class that counts.

    Args:
        store: the store; pixels are read only where the manifest's counts do not answer.
        labels: ground truth for training. Validation always uses the eroded one.

    Raises:
        StoreError: no pixel of a subset has a label that the training can use.
    """
    manifest = store.manifest
    train, val, test = (manifest.subset(name) for name in ("train", "val", "test"))
    counted = {k for k, counts in enumerate(manifest.in_means) if counts}
    learned = _classes(store, train, labels, range(len(manifest.classes)))
    if train and not learned:
        raise StoreError(
            f"{store.path}: no pixel of the training tiles ({_ids(train)}) is labelled in the {labels} ground truth; "
            "check their label files and run preprocess again, or change data.split or train.labels"
        )
    scored = _classes(store, val, "eroded", counted)
    if val and not scored:
        raise StoreError(
            f"{store.path}: no pixel of the validation tiles ({_ids(val)}) has a class that counts in the mean IoU in "
            "the eroded ground truth, so no checkpoint can be selected; check their label files and run preprocess "
            "again, or change data.split"
        )
    for subset, truth, missing in (("training", labels, counted - learned), ("validation", "eroded", counted - scored)):
        for k in sorted(missing):
            log.warning(
                "class %s counts in the mean IoU, but no pixel of the %s tiles has it in the %s ground truth",
                manifest.classes[k],
                subset,
                truth,
            )
    if test and not _classes(store, test, "full", counted):
        log.warning(
            "no pixel of the test tiles (%s) has a class that counts in the mean IoU, so evaluate will stop with an "
            "error; check their label files and run preprocess again, or change data.split",
            _ids(test),
        )


def _classes(
    store: Store, tiles: Iterable[TileEntry], labels: Literal["full", "eroded"], wanted: Collection[int]
) -> set[int]:
    """Those of the wanted classes that some tile has."""
    found: set[int] = set()
    for tile in tiles:
        left = set(wanted) - found
        found |= {k for k in left if tile.class_px[k]} if labels == "full" else _eroded_classes(store, tile, left)
    return found


def _eroded_classes(store: Store, tile: TileEntry, wanted: set[int]) -> set[int]:
    """Those of the wanted classes that the eroded labels of a tile have; the manifest counts the full labels only."""
    found: set[int] = set()
    rows = max(1, BAND_PX // tile.width_px)
    for top in range(0, tile.height_px, rows):
        if not wanted - found:
            break
        band_HW = store[tile].eroded_HW[top : top + rows]
        found |= {k for k in wanted - found if np.any(band_HW == k)}
    return found


def _ids(tiles: Collection[TileEntry]) -> str:
    """The ids of tiles, at most five."""
    names = [tile.id for tile in tiles]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
