"""One tile: all its files read together, row block by row block, once; run in a worker process.

In: which files a tile has. Out: `TileFacts`. A file that cannot be read ends in a trouble, never in an exception, and
the others are read on. What compares two layers (heights per class, full against eroded label) uses the blocks that lie
over each other, so it needs layers on the image's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.check.facts import FileFacts, Pixels, TileFacts, Trouble
from components.check.headers import read_header
from components.check.layout import bands_of, odd_layout
from components.check.pixels import HeightSums, ImageSums, LabelSums, PixelSums
from components.common.data.datasets import KINDS, Dataset, FileKind
from components.common.data.labels import legend_of
from components.common.errors import DataError
from components.common.readers.grids import GridError, padding
from components.common.readers.rasters import RasterFile, open_raster

BLOCK_PX = 1 << 21
"""About so many pixels are in memory at a time, per layer."""

SAMPLE_SIDE = 512
"""About so many rows and columns are enough for what classes look like."""

NEAR_PX = 64
"""A layer whose corner is at most so far from the image's is compared with it pixel by pixel."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """All that a process must know to read one tile."""

    folder: Path
    dataset: Dataset
    own: bool  # a user's own data, in which more types of pixels are taken
    tile: str
    places: Mapping[FileKind, str]  # below the folder
    skim: frozenset[FileKind]  # files of which the header is enough: another tile has them too


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a layer, in the image's rows and columns."""

    row: int
    column: int
    values: npt.NDArray[Any]  # image [B, h, w] as in the file; heights [h, w] metres; labels [h, w] classes


def scan_tile(job: TileJob) -> TileFacts:
    """Read all files of a tile."""
    troubles: dict[FileKind, tuple[Trouble, ...]] = {}
    headers: dict[FileKind, FileFacts] = {}
    for kind, place in job.places.items():
        try:
            headers[kind] = read_header(job.folder, place)
            troubles[kind] = tuple(odd_layout(job.dataset, kind, headers[kind], job.own))
        except DataError as error:
            troubles[kind] = (Trouble("unreadable", str(error)),)
    with ExitStack() as stack:
        layers: dict[FileKind, Layer] = {}
        for kind in [kind for kind in headers if not troubles[kind] and kind not in job.skim]:
            try:
                layers[kind] = Layer(job, kind, headers, stack)
            except DataError as error:
                troubles[kind] = (_unreadable(job, kind, error),)
        _read(job, layers, troubles)
        return _facts(job, headers, layers, troubles)


class Layer:
    """One open file and the sums over it."""

    def __init__(self, job: TileJob, kind: FileKind, headers: Mapping[FileKind, FileFacts], stack: ExitStack) -> None:
        """Open the file; the stack closes it."""
        facts, dataset, classes = headers[kind], job.dataset, len(job.dataset.classes)
        path = job.folder / facts.path
        bands = bands_of(dataset, kind)
        self.file: RasterFile = stack.enter_context(
            open_raster(path, bands=bands, dtypes=facts.dtype.split(), alpha=facts.bands > bands)
        )
        self.pixels = PixelSums(bands, facts.dtype)
        self.image = ImageSums(dataset.image, classes, facts.dtype) if kind == "image" else None
        self.heights = HeightSums(dataset.dsm.unit_m, classes, facts.dtype) if kind == "dsm" else None
        self.label = LabelSums(classes, legend_of(dataset)) if kind in ("label", "eroded") else None
        self.row = self.column = 0
        self.on_grid = True
        self.step = max(1, min(facts.height_px, facts.width_px) // SAMPLE_SIDE)

    def lie_on(self, image: RasterFile) -> None:
        """Find where the layer lies on the image's grid."""
        try:
            lacks = padding(self.file.path, self.file.grid, image.grid, NEAR_PX)
            self.row, self.column = lacks.top, lacks.left
        except GridError:
            self.on_grid = False

    def block(self, top: int, bottom: int) -> Block | None:
        """Read some of the image's rows and add them up; None where the layer has none of them."""
        first, end = (min(max(0, row - self.row), self.file.grid.height_px) for row in (top, bottom))
        if first >= end:
            return None
        rows = slice(first, end)
        pixels_BHW, marked_HW = self.file.read(rows), self.file.missing(rows)
        missing_HW = np.zeros(pixels_BHW.shape[1:], bool) if marked_HW is None else marked_HW
        if np.issubdtype(pixels_BHW.dtype, np.floating):
            missing_HW = missing_HW | np.isnan(pixels_BHW).any(0)
        self.pixels.add(pixels_BHW, missing_HW)
        return Block(first + self.row, self.column, self._add(pixels_BHW, missing_HW))

    def _add(self, pixels_BHW: npt.NDArray[Any], missing_HW: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        if self.label is not None:
            return self.label.add(pixels_BHW)
        if self.heights is not None:
            return self.heights.add(pixels_BHW[0], missing_HW)
        if self.image is not None:
            self.image.add(pixels_BHW, missing_HW)
        return pixels_BHW


def _read(job: TileJob, layers: dict[FileKind, Layer], troubles: dict[FileKind, tuple[Trouble, ...]]) -> None:
    """Go through all layers side by side; one that fails is taken out."""
    if "image" in layers:
        for kind, layer in layers.items():
            if kind != "image":
                layer.lie_on(layers["image"].file)
    if not layers:
        return
    end = max(layer.row + layer.file.grid.height_px for layer in layers.values())
    rows = _rows_at_once(max(layer.file.grid.width_px for layer in layers.values()))
    for top in range(0, end, rows):
        blocks: dict[FileKind, Block] = {}
        for kind, layer in list(layers.items()):
            try:
                block = layer.block(top, top + rows)
                if block is not None and layer.on_grid:
                    blocks[kind] = block
            except DataError as error:
                troubles[kind] = (_unreadable(job, kind, error),)
                del layers[kind]
        _compare(layers, blocks)


def _compare(layers: Mapping[FileKind, Layer], blocks: Mapping[FileKind, Block]) -> None:
    """What needs two layers."""
    if "label" not in blocks:
        return
    full = blocks["label"]
    for kind in ("image", "dsm", "eroded"):
        if kind not in blocks:
            continue
        layer = layers[kind]
        values, y_HW = _over_each_other(blocks[kind], full)
        if not y_HW.size:
            continue
        if layer.label is not None:
            layer.label.compare(values, y_HW)
            continue
        skip = -max(blocks[kind].row, full.row) % layer.step
        thin = np.s_[..., skip :: layer.step, :: layer.step]
        if layer.image is not None:
            layer.image.add_classes(values[thin], y_HW[thin])
        elif layer.heights is not None:
            layer.heights.add_classes(values[thin], y_HW[thin])


def _over_each_other(one: Block, other: Block) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The parts of two blocks that cover the same pixels of the image."""
    (height, width), (other_height, other_width) = one.values.shape[-2:], other.values.shape[-2:]
    top, left = max(one.row, other.row), max(one.column, other.column)
    bottom = max(top, min(one.row + height, other.row + other_height))
    right = max(left, min(one.column + width, other.column + other_width))
    return tuple(  # type: ignore[return-value]
        block.values[..., top - block.row : bottom - block.row, left - block.column : right - block.column]
        for block in (one, other)
    )


def _facts(
    job: TileJob,
    headers: Mapping[FileKind, FileFacts],
    layers: Mapping[FileKind, Layer],
    troubles: Mapping[FileKind, tuple[Trouble, ...]],
) -> TileFacts:
    image, dsm, label, eroded = (layers.get(kind) for kind in KINDS)
    pixels: dict[FileKind, Pixels] = {kind: layer.pixels.facts() for kind, layer in layers.items()}
    return TileFacts(
        tile=job.tile,
        files=headers,
        pixels=pixels,
        places=job.places,
        image=image.image.facts() if image and image.image else None,
        dsm=dsm.heights.facts() if dsm and dsm.heights else None,
        label=label.label.facts() if label and label.label else None,
        eroded=eroded.label.facts() if eroded and eroded.label else None,
        troubles={kind: found for kind, found in troubles.items() if found},
    )


def _unreadable(job: TileJob, kind: FileKind, error: DataError) -> Trouble:
    return Trouble("unreadable", str(error).removeprefix(f"{job.folder / job.places[kind]}: "))


def _rows_at_once(width_px: int) -> int:
    """Whole rows of blocks, as most files are cut into blocks of 256 or rows."""
    rows = BLOCK_PX // width_px
    return max(16, rows - rows % 256 if rows > 256 else rows - rows % 2)
