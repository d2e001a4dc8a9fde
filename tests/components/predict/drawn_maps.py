"""Maps without a network: bands of scores that are functions of the position, as the blending would yield them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from rasterio import Affine
from rasterio.crs import CRS

from components.common.rasterfiles.grids import Grid
from components.predict.outputs.map_facts import MapFacts
from components.predict.outputs.map_layers import LAYERS, layers_of
from components.predict.outputs.maps import draft_maps
from components.predict.outputs.parts import Region
from components.predict.outputs.working import Tally, Working

CLASSES, PALETTE = ("Building", "Low vegetation & <grass>", "Straße"), ((0, 0, 255), (0, 255, 255), (255, 255, 255))


@dataclass(frozen=True)
class DrawnBand:
    """What `blending.Band` has."""

    rows: slice
    columns: slice
    probabilities_KhW: torch.Tensor
    gates_hW: torch.Tensor
    sensors_hW: np.ndarray
    agreeing: int
    pairs: int


def drawn(rows, columns):
    """Scores of a rectangle: classes in blocks of 7 by 5 pixels, none in rows 3 and 4; no DSM in columns 0 to 9."""
    y, x = np.mgrid[rows, columns]
    place = torch.from_numpy((y // 7 + x // 5).astype(np.int64))
    winner = torch.nn.functional.one_hot(place % 3, 3).permute(2, 0, 1).float()
    share = torch.from_numpy(((y * 31 + x * 17) % 97).astype(np.float32)) / 97
    probabilities = winner * (0.4 + 0.6 * share) + (1 - winner) * (0.3 - 0.3 * share)
    sensors = np.where(x < 10, 1, 3).astype(np.uint8)
    sensors[(y == 3) | (y == 4)] = 0
    pairs = int((x + y).sum())
    return DrawnBand(rows, columns, probabilities, share, sensors, pairs - int((y % 3).sum()), pairs)


def grid(height_px=70, width_px=53, transform=None, crs="EPSG:32633"):
    place = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000) if transform is None else transform
    return Grid(height_px, width_px, place, CRS.from_user_input(crs) if crs else None)


def facts(raster=None, **changes):
    raster = raster or grid()
    whole = Region(slice(0, raster.height_px), slice(0, raster.width_px))
    known = MapFacts(
        model="models:/mobanet/3",
        model_version="3",
        model_sha256="a" * 64,
        data_md5="d" * 32,
        classes=CLASSES,
        palette=PALETTE,
        sensors=("image", "dsm"),
        inputs="f" * 64,
        settings={"window_px": 32, "stride_px": 24, "batch_size": 4},
        grid=raster,
        region=whole,
        part=None,
        layers=tuple(LAYERS),
    )
    return replace(known, **changes)


def blocks_of(known, width_px=20):
    here = known.here
    edges = [*range(here.columns.start, here.columns.stop, width_px), here.columns.stop]
    return [Region(here.rows, slice(*pair)) for pair in zip(edges, edges[1:], strict=False)]


def fill(working, blocks, known, step=9):
    for block in blocks:
        for start in range(working.first_row(block), block.rows.stop, step):
            band = drawn(slice(start, min(start + step, block.rows.stop)), block.columns)
            working.write(block, band.rows, layers_of(band, known.layers), Tally.of(band))


def write_map(output, known, width_px=20, step=9):
    """Write all files of a map; returns its draft."""
    blocks = blocks_of(known, width_px)
    with Working.open(output, known, blocks) as working:
        fill(working, blocks, known, step)
        draft = draft_maps(working)
        summary = draft.summary()
        draft.place()
    return draft, summary


def contents(folder):
    """Bytes of all files by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
