"""Fake tiles: Potsdam under its real names, and a data set of one's own; small, made by code, one trap per argument."""

import warnings
import zlib

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from components.common.data.datasets import KINDS, dataset, split
from components.common.data.rawtree import RawTree, write_raw_tree
from components.preprocess.height_settings import HeightsConfig
from components.preprocess.step import PreprocessConfig

POTSDAM = dataset("sample")  # the layout of Potsdam
PALETTE = POTSDAM.palette
TRAPPED = "2_10"  # the tile that the traps are set in: a training tile of the split `sample`


def write_tiff(path, pixels_BHW, **profile):
    """Write a TIFF; None as a value leaves that key of the profile out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels_BHW.shape
    known = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", NotGeoreferencedWarning
        )  # some get a world file, some nothing: that is the trap
        with rasterio.open(path, "w", "GTiff", **{k: v for k, v in (known | profile).items() if v is not None}) as file:
            file.write(pixels_BHW)


def write_world_file(tiff, transform):
    """As the benchmark's: the centre of the upper left pixel."""
    a, b, _, d, e, _ = transform[:6]
    x, y = transform @ (0.5, 0.5)
    tiff.with_suffix(".tfw").write_text("".join(f"{value!r}\n" for value in (a, d, b, e, x, y)))


def transform_of(tile, side_px):
    row, column = (int(part) for part in tile.split("_"))
    return Affine(0.05, 0, 366000 + column * side_px * 0.05, 0, -0.05, 5807000 - row * side_px * 0.05)


def layers_of(tile, side_px):
    """Random image, terrain with bumps, classes in squares of 8 pixels, and the same without the squares' rims."""
    rng = np.random.default_rng(zlib.crc32(tile.encode()))
    image_BHW = rng.integers(0, 256, (3, side_px, side_px), dtype=np.uint8)
    dsm_HW = (40 + np.linspace(0, 1, side_px) + rng.normal(0, 0.05, (side_px, side_px))).astype(np.float32)
    squares = rng.integers(0, 6, (side_px // 8, side_px // 8))
    label_BHW = np.moveaxis(PALETTE[np.kron(squares, np.ones((8, 8), int))], -1, 0)
    inside = np.pad(np.ones((6, 6), np.uint8), 1)
    eroded_BHW = label_BHW * np.tile(inside, squares.shape)
    return image_BHW, dsm_HW, label_BHW, eroded_BHW


@pytest.fixture
def potsdam(tmp_path, raw_tree):
    def make(*, side_px=64, dsm_short_by=0, car=(255, 255, 0), lossy=False, magenta_px=0, hole_px=0, missing=()):
        """The raw folder as acquire leaves it.

        Args:
            side_px: of a tile.
            dsm_short_by: columns that the DSM of tile 2_10 lacks at the right.
            car: colour that cars have in its label.
            lossy: its label went through a lossy picture format.
            magenta_px: pixels of its label with a colour of no class.
            missing: pairs of tile and kind whose files do not exist.
            hole_px: side of a square in its DSM without heights: half NaN, half the nodata value.
        """
        raw = tmp_path / "raw"
        tiles = split("sample", "sample").tiles
        for tile in tiles:
            image_BHW, dsm_HW, label_BHW, eroded_BHW = layers_of(tile, side_px)
            if tile == TRAPPED:
                cars = (label_BHW == np.array([255, 255, 0])[:, None, None]).all(0)
                label_BHW[:, cars] = np.array(car, np.uint8)[:, None]
                if lossy:
                    noise = np.random.default_rng(0).integers(-60, 61, label_BHW.shape)
                    label_BHW = (label_BHW + noise).clip(0, 255).astype(np.uint8)
                label_BHW[:, 0, :magenta_px] = np.array([200, 10, 200], np.uint8)[:, None]
                dsm_HW[20 : 20 + hole_px, 20 : 20 + hole_px // 2] = np.nan
                dsm_HW[20 : 20 + hole_px, 20 + hole_px // 2 : 20 + hole_px] = -9999
                dsm_HW = dsm_HW[:, : side_px - dsm_short_by]
            placed = {"crs": "EPSG:32633", "transform": transform_of(tile, side_px)}
            write_tiff(raw / POTSDAM.path("image", tile), image_BHW, **placed)
            write_tiff(raw / POTSDAM.path("dsm", tile), dsm_HW[None], nodata=-9999)
            write_world_file(raw / POTSDAM.path("dsm", tile), placed["transform"])
            write_tiff(raw / POTSDAM.path("label", tile), label_BHW, **placed, compress="lzw")
            write_tiff(raw / POTSDAM.path("eroded", tile), eroded_BHW, **placed)
        for tile, kind in missing:
            (raw / POTSDAM.path(kind, tile)).unlink()
        raw_tree(raw, POTSDAM, tiles, "sample", missing)
        return raw

    return make


@pytest.fixture
def raw_tree():
    def write(raw, dataset, tiles, source, missing=()):
        """Write down what acquire would: the files of the tiles are where the data set's patterns say."""
        kinds = [kind for kind in KINDS if dataset.pattern(kind)]
        files = {
            tile: {kind: dataset.path(kind, tile) for kind in kinds if (tile, kind) not in missing} for tile in tiles
        }
        tree = RawTree(raw, source, dataset, files)
        write_raw_tree(tree)
        return tree

    return write


@pytest.fixture
def rewrite():
    def rewrite(path, change=lambda pixels_BHW: pixels_BHW, **profile):
        """Rewrite a TIFF with other pixels or another profile."""
        with rasterio.open(path) as file:
            kept = {"crs": file.crs, "transform": file.transform, "nodata": file.nodata}
            pixels_BHW = change(file.read())
        path.with_suffix(".tfw").unlink(missing_ok=True)
        write_tiff(path, pixels_BHW, **(kept | profile))

    return rewrite


@pytest.fixture
def pixels_of():
    """The pixels that `potsdam` draws for a tile: image [3, H, W], DSM [H, W], label and eroded label [3, H, W]."""
    return layers_of


@pytest.fixture
def config():
    def config(method="above-ground", **changes):
        heights = HeightsConfig(
            method=method, ground_radius_m=12.0, scale_m=10.0, percentiles=(2.0, 98.0), clip=(-0.5, 2.0)
        )
        usual = {"heights": heights, "max_unknown_share": 0.001, "max_pad_px": 8, "workers": 1}
        return PreprocessConfig(**(usual | changes))

    return config
