"""The rasters of a tile, with anything that a file can state about itself, and the reader over them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from components.common.data.config import Accepted
from components.common.data.datasets import ClassInfo, Dataset, DsmInfo, FileKind, ImageInfo, LabelInfo
from components.common.readers.tiles import ReaderSettings, TileFiles, TileReader

HEIGHT, WIDTH = 60, 80
HERE = Affine(0.5, 0, 366000, 0, -0.5, 5807000)
PLACED = {"crs": "EPSG:32633", "transform": HERE}

TOWN = Dataset(
    name="town",
    gsd_m=0.5,
    crs=None,
    acknowledgement="",
    labels="values",
    classes=(
        ClassInfo(name="ground", rgb=(255, 255, 255), in_means=True, value=0),
        ClassInfo(name="roof", rgb=(200, 30, 40), in_means=True, value=1),
        ClassInfo(name="water", rgb=(0, 0, 255), in_means=True, value=255),
    ),
    class_shares=None,
    image=ImageInfo(files="a.tif", bands=("r", "g", "b"), range=(0, 255), mean=(0.5,) * 3, std=(0.2,) * 3),
    dsm=DsmInfo(files="dsm.tif", relative_to="datum"),
    label=LabelInfo(files="label.tif"),
    eroded=None,
)


ATTRIBUTES = {
    "colours": "colorinterp",
    **{name: name for name in ("scales", "offsets", "units", "descriptions")},
}
"""What `write` states about each band, and the attribute of rasterio's file."""


def write(path: Path, pixels_BHW: np.ndarray, **facts: Any) -> Path:
    """Write a raster; None as a value leaves that fact out.

    Args:
        path: a TIFF, unless `driver` is given.
        pixels_BHW: its pixels.
        facts: the keys of `ATTRIBUTES`, `palette`, `hidden_HW` (a mask; in a file of its own with `own_mask`),
            `window` and `size` (a part that is written), and rasterio's profile.
    """
    extra = {k: facts.pop(k, None) for k in (*ATTRIBUTES, "palette", "hidden_HW")}
    window, own_mask = facts.pop("window", None), facts.pop("own_mask", False)
    bands, height, width = facts.pop("size", pixels_BHW.shape)
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    profile = {key: value for key, value in (profile | facts).items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not own_mask):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            for name, key in ATTRIBUTES.items():
                if extra[name] is not None:
                    setattr(file, key, extra[name])
            if extra["palette"] is not None:
                file.write_colormap(1, extra["palette"])
            file.write(pixels_BHW, window=window)
            if extra["hidden_HW"] is not None:
                file.write_mask(~extra["hidden_HW"])
    return path


def slope(transform: Affine = HERE, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Heights that depend only on the place on the map: 0.1 m per metre east, -0.05 m per metre north."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = transform @ (columns, rows)
    return (40 + 0.1 * (x - 366000) - 0.05 * (y - 5807000)).astype(np.float32)


class Tile:
    """The files of a tile: usual ones, until they are written again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.image_BHW = np.random.default_rng(0).integers(1, 255, (3, HEIGHT, WIDTH), dtype=np.uint8)
        self.dsm_HW = slope()
        self.label_HW = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
        self.write("image", self.image_BHW)
        self.write("dsm", self.dsm_HW[None])
        self.write("label", self.label_HW[None])

    def path(self, kind: FileKind) -> Path:
        return self.folder / {"image": "a.tif", "dsm": "dsm.tif", "label": "label.tif", "eroded": "eroded.tif"}[kind]

    def write(self, kind: FileKind, pixels_BHW: np.ndarray, **facts: Any) -> Path:
        """Write a layer on the grid of the tile, or as the facts state."""
        path = self.path(kind)
        path.unlink(missing_ok=True)
        return write(path, pixels_BHW, **(PLACED | facts))

    def files(self, *, own: bool = True, **changes: Any) -> TileFiles:
        """What the reader must know; a mapping in the changes replaces single keys of a layer."""
        infos = {key: replace(getattr(TOWN, key), **facts) for key, facts in changes.items() if isinstance(facts, dict)}
        dataset = replace(TOWN, **(changes | infos))
        kinds: tuple[FileKind, ...] = ("image", "dsm", "label", *(("eroded",) if dataset.eroded else ()))
        return TileFiles(self.folder, dataset, own, "a", {kind: self.path(kind).name for kind in kinds})

    def reader(self, *, accept: dict[str, Any] | None = None, max_pad_px: int = 8, **changes: Any) -> TileReader:
        """The reader, with an open image."""
        settings = ReaderSettings(max_pad_px, 0.001, Accepted(accept or {}))
        reader = TileReader(self.files(**changes), settings, self._stack)
        reader.image()
        return reader

    def image(self, **changes: Any) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
        """Rows of the image as the store has them, where there are none, and the codes of the notes."""
        reader = self.reader(**changes)
        layer = reader.layers["image"]
        rows = layer.rows(slice(0, layer.layer.fit.image.height_px))
        reader.finish("image")
        return rows.image_hWC, rows.missing_hW, codes(layer)

    def heights(self, *, step: int = 17, **changes: Any) -> tuple[np.ndarray, list[str]]:
        """All heights, read in bands of `step` rows, and the codes of the notes."""
        reader = self.reader(**changes)
        layer = reader.dsm()
        metres_HW = read_heights(layer, step)
        reader.finish("dsm")
        return metres_HW, codes(layer)

    def labels(self, kind: FileKind = "label", **changes: Any) -> tuple[np.ndarray, list[str]]:
        """All classes, and the codes of the notes."""
        reader = self.reader(**changes)
        layer = reader.label(kind)
        y_HW = layer.rows(slice(0, layer.layer.fit.image.height_px)).y_hW
        reader.finish(kind)
        return y_HW, codes(layer)


def read_heights(layer: Any, step: int = 17) -> np.ndarray:
    """All heights of a layer, in bands of `step` rows, as often as the layer asks for."""
    height_px = layer.layer.fit.image.height_px
    while True:
        bands = [slice(first, min(first + step, height_px)) for first in range(0, height_px, step)]
        metres_HW = np.concatenate([layer.metres(rows) for rows in bands])
        if not layer.learned():
            return metres_HW


def codes(layer: Any) -> list[str]:
    """Codes of the notes of a layer."""
    return [note.code for note in layer.notes]


@pytest.fixture
def tile(tmp_path: Path) -> Iterator[Tile]:
    with ExitStack() as stack:
        yield Tile(tmp_path, stack)
