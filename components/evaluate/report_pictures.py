"""The pictures of the report as data URIs that fit into its size: maps of the tiles, and the worst crops.

In: pictures of every tile by title, crops with their pixels. Out: data URIs. Crops keep their full resolution; pictures
of tiles are shrunk until they fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from components.common.scoring.inline_pictures import data_uri
from components.common.scoring.panels import Picture, class_picture, height_picture
from components.evaluate.worst_crops import MAX_SIDE_PX, Crop, WorstCrop

PICTURE_BUDGET = 4_600_000
"""Limit for all pictures of a page, bytes; with its text, a page stays below 5 MB."""

CROP_SHARE = 0.25
"""Limit for the crops, as a share of `PICTURE_BUDGET`; the last crops are left out if they do not fit."""

LEAST_SIDE_PX = 96
"""Minimum size of a tile's picture, pixels. If they still do not fit, the last tiles are left out of the page."""


@dataclass(frozen=True, slots=True)
class TilePictures:
    """Pictures of one tile as data URIs, by title."""

    tile: str
    uris: dict[str, str]


@dataclass(frozen=True, slots=True)
class CropPictures:
    """A worst crop and its pictures as data URIs, by title."""

    found: WorstCrop
    uris: dict[str, str]


Shown = TypeVar("Shown", TilePictures, CropPictures)


def inline(
    tiles: Mapping[str, Mapping[str, Picture]],
    crops: Sequence[Crop],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
) -> tuple[list[TilePictures], list[CropPictures]]:
    """Data URIs that fit into `PICTURE_BUDGET`.

    Args:
        tiles: tile -> title -> picture.
        crops: the worst crops, the worst first.
        classes: names in label order.
        palette: colours of the classes.
    """
    shown_crops = _fitting([_crop(crop, classes, palette) for crop in crops], int(CROP_SHARE * PICTURE_BUDGET))
    left = PICTURE_BUDGET - sum(_bytes(crop) for crop in shown_crops)
    side_px = max((max(picture.shape[:2]) for pictures in tiles.values() for picture in pictures.values()), default=0)
    while True:
        shown = [
            TilePictures(tile, {title: data_uri(picture, side_px) for title, picture in pictures.items()})
            for tile, pictures in tiles.items()
        ]
        total = sum(_bytes(tile) for tile in shown)
        if total <= left or side_px <= LEAST_SIDE_PX:
            return _fitting(shown, left), shown_crops
        side_px = max(LEAST_SIDE_PX, int(side_px * min(0.95, math.sqrt(left / total))))


def _fitting(items: list[Shown], budget: int) -> list[Shown]:
    """The first pictures that fit."""
    ends = np.cumsum([_bytes(item) for item in items])
    return [item for item, end in zip(items, ends, strict=True) if end <= budget]


def _bytes(item: TilePictures | CropPictures) -> int:
    return sum(len(uri) for uri in item.uris.values())


def _crop(crop: Crop, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]) -> CropPictures:
    pictures = {
        "Image": crop.image_hw3,
        "DSM": None if crop.dsm_hw is None else height_picture(crop.dsm_hw),
        "Label": class_picture(crop.label_hw, palette),
        "Predicted": class_picture(crop.predicted_hw, palette),
    }
    uris = {title: data_uri(picture, MAX_SIDE_PX) for title, picture in pictures.items() if picture is not None}
    return CropPictures(crop.entry(classes), uris)
