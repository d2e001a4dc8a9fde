"""Own data with one thing wrong, for every code of the check, and what its remedy asks for.

A case spoils a small data set in which everything is right. Its remedies change dataset.yaml, the split or params.yaml
as the finding asks. The remedy `check.accept` is read from the finding itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from tests.e2e.own_data import OwnData, described

SIDE_PX, GSD_M, EAST, NORTH = 64, 0.25, 500_000.0, 5_800_000.0
TILES = "abcd"
SUBSETS = {"train": ["a", "d"], "val": ["b"], "test": ["c"]}
Change = Callable[[OwnData], None]


@dataclass(frozen=True)
class Case:
    """One thing that is wrong with tile a, or with the set."""

    code: str
    spoil: Change
    remedies: tuple[Change, ...] = ()  # each alone makes the finding disappear; empty: no key does


def town(folder: Path) -> OwnData:
    """Four tiles side by side in which nothing is wrong: an image, heights, values 0, 1 and 2 as labels."""
    data = described(folder, gsd_m=GSD_M)
    data.split = {subset: list(tiles) for subset, tiles in SUBSETS.items()}
    for number, tile in enumerate(TILES):
        rng = np.random.default_rng(number)
        label = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        label[8:24, 8 + number : 24], label[36:56, 30:50] = 1, 2
        image = rng.integers(10, 240, (3, SIDE_PX, SIDE_PX)).astype(np.uint8)
        heights = 50 + np.array([0, 8, 4])[label] + rng.normal(0, 0.2, label.shape)
        place = Affine(GSD_M, 0, EAST + number * SIDE_PX * GSD_M, 0, -GSD_M, NORTH)
        layers = {"images": image, "dsm": heights[None].astype(np.float32), "labels": label[None]}
        for kind, pixels in layers.items():
            write(data.files / kind / f"{tile}.tif", pixels, transform=place, crs="EPSG:25832")
    return data


def write(path: Path, pixels_BHW: np.ndarray, **profile: Any) -> None:
    """Write a GeoTIFF; keys of the profile that are None are left out. `tags`, `scale`, `offset`, `unit`: of band 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels_BHW.shape
    scale, offset, unit = (profile.pop(key, None) for key in ("scale", "offset", "unit"))
    profile = {key: value for key, value in profile.items() if value is not None}
    size = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **(size | profile)) as file:
            file.write(pixels_BHW)
            if scale is not None:
                file.scales, file.offsets = (scale,) * bands, (offset or 0.0,) * bands
            if unit is not None:
                file.units = (unit,) * bands


def rewrite(name: str, change: Callable[[np.ndarray], Any] = lambda pixels: pixels, **profile: Any) -> Change:
    """Write one file again with other pixels or another header."""

    def spoil(data: OwnData) -> None:
        path = data.files / name
        with rasterio.open(path) as file:
            pixels, known = file.read(), {"crs": file.crs, "transform": file.transform}
        write(path, np.asarray(change(pixels)), **(known | profile))

    return spoil


def everywhere(kind: str, change: Callable[[np.ndarray], Any] = lambda pixels: pixels, **profile: Any) -> Change:
    """`rewrite` for all tiles."""
    return both(*(rewrite(f"{kind}/{tile}.tif", change, **profile) for tile in TILES))


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(data: OwnData) -> None:
        for one in changes:
            one(data)

    return change


def layer(kind: str, **keys: Any) -> Change:
    """Set keys of a layer in dataset.yaml; None removes one."""

    def change(data: OwnData) -> None:
        if kind in ("image", "dsm"):
            info = data.facts[kind]["one"]
        else:
            given = data.facts[kind]
            data.facts[kind] = info = {"files": given} if isinstance(given, str) else given
        info.update(keys)
        for key in [key for key, value in info.items() if value is None]:
            del info[key]

    return change


def facts(**keys: Any) -> Change:
    """Set keys of dataset.yaml."""
    return lambda data: data.facts.update(keys)


def params(section: str, **keys: Any) -> Change:
    """Set keys of params.yaml."""
    return lambda data: data.params.update({section: data.params.get(section, {}) | keys})


def split(**subsets: list[str]) -> Change:
    """Set subsets of the split."""
    return lambda data: data.split.update(subsets)


def moved(name: str, right_px: float = 0, down_px: float = 0, scale: float = 1) -> Change:
    """Change the georeference of a file."""

    def spoil(data: OwnData) -> None:
        with rasterio.open(data.files / name) as file:
            place = file.transform @ Affine.translation(right_px, down_px) @ Affine.scale(scale)
        rewrite(name, transform=place)(data)

    return spoil


def bent_points(bend_px: float) -> Change:
    """Ground control points instead of a transform, one of them off a straight grid."""

    def spoil(data: OwnData) -> None:
        path = data.files / "images/a.tif"
        with rasterio.open(path) as file:
            pixels, place, crs = file.read(), file.transform, file.crs
        corners = [(0, 0), (0, SIDE_PX), (SIDE_PX, 0), (SIDE_PX, SIDE_PX)]
        points = []
        for number, (row, column) in enumerate(corners):
            x, y = place @ (column + bend_px * (number == 3), row)
            points.append(GroundControlPoint(row, column, x, y))
        write(path, pixels, gcps=points, crs=crs)

    return spoil


def sparse(name: str) -> Change:
    """Write only the upper half of a file."""

    def spoil(data: OwnData) -> None:
        path = data.files / name
        with rasterio.open(path) as file:
            pixels, profile = file.read(), file.profile
        keys = {"sparse_ok": True, "tiled": True, "blockxsize": 32, "blockysize": 32}
        with rasterio.open(path, "w", **(profile | keys)) as file:
            file.write(pixels[:, :32], window=rasterio.windows.Window(0, 0, SIDE_PX, 32))

    return spoil


def delete(*names: str) -> Change:
    """Delete files."""

    def spoil(data: OwnData) -> None:
        for name in names:
            (data.files / name).unlink()

    return spoil


def part(rows: slice, columns: slice, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Set a rectangle of all bands to a value."""

    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[:, rows, columns] = value
        return pixels

    return change


def copied(source: str, target: str) -> Change:
    """Give a file the pixels of another one; it stays where it lies."""

    def spoil(data: OwnData) -> None:
        with rasterio.open(data.files / source) as file:
            pixels = file.read()
        rewrite(target, lambda _: pixels)(data)

    return spoil


def eroded_labels(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """Eroded labels for all tiles; that of tile a is made from the full and the eroded one."""

    def spoil(data: OwnData) -> None:
        data.facts["eroded"] = "eroded/{tile}.tif"
        for tile in TILES:
            with rasterio.open(data.files / f"labels/{tile}.tif") as file:
                y, known = file.read(1), {"crs": file.crs, "transform": file.transform}
            edges = np.zeros(y.shape, bool)
            for axis in (0, 1):
                for step in (-1, 1):
                    edges |= np.roll(y, step, axis) != y
            eroded = np.where(edges, 255, y).astype(np.uint8)
            write(data.files / f"eroded/{tile}.tif", (change(y, eroded) if tile == "a" else eroded)[None], **known)

    return spoil


def infrared_first(data: OwnData) -> None:
    """Four bands with infrared in the place of red, in all tiles."""
    for tile in TILES:
        path = data.files / f"images/{tile}.tif"
        with rasterio.open(data.files / f"labels/{tile}.tif") as file:
            tree = file.read(1) == 2
        with rasterio.open(path) as file:
            pixels, known = file.read(), {"crs": file.crs, "transform": file.transform}
        pixels = (100 + pixels // 8).astype(np.uint8)
        infrared = np.where(tree, 220, 80).astype(np.uint8)
        write(path, np.stack([infrared, *pixels]), **known)
    names = ["red", "green", "blue", "near infrared"]
    data.facts["classes"][2]["name"] = "tree"
    data.facts["image"]["one"].update(bands=names, mean=[0.5] * 4, std=[0.25] * 4)


def coloured(*colours: tuple[int, int, int]) -> Change:
    """Labels by colour in all tiles: the classes have these colours in the files, and pure ones in dataset.yaml."""

    def spoil(data: OwnData) -> None:
        pure = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
        data.facts["labels"] = "colours"
        for given, rgb in zip(data.facts["classes"], pure, strict=True):
            given["rgb"] = rgb
        for tile in TILES:
            rewrite(f"labels/{tile}.tif", lambda y: np.moveaxis(np.array(colours, np.uint8)[y[0]], -1, 0))(data)

    return spoil


def colours(*rgb: list[int]) -> Change:
    """Colours of the classes in dataset.yaml."""
    return lambda data: [given.update(rgb=each) for given, each in zip(data.facts["classes"], rgb, strict=True)]


def numbered(data: OwnData) -> None:
    """Files named by number, so that 1 and 01 are one file."""
    for kind in ("images", "dsm", "labels"):
        for number, tile in enumerate(TILES, 1):
            (data.files / kind / f"{tile}.tif").rename(data.files / kind / f"{number}.tif")
    layer("image", files="images/{n}.tif")(data)
    layer("dsm", files="dsm/{n}.tif")(data)
    layer("label", files="labels/{n}.tif")(data)
    data.split = {"train": ["1", "4", "01"], "val": ["2"], "test": ["3"]}


def tile_moved(tile: str, right_px: float) -> Change:
    """Move all layers of a tile."""
    return both(*(moved(f"{kind}/{tile}.tif", right_px) for kind in ("images", "dsm", "labels")))


def cropped(tile: str) -> Change:
    """Leave a quarter of a tile's pixels."""
    return both(*(rewrite(f"{kind}/{tile}.tif", lambda p: p[:, :32, :32]) for kind in ("images", "dsm", "labels")))
