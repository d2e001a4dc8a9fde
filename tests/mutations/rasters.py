"""Mutators of a user's rasters and of dataset.yaml: what files say of themselves, how they lie, what they hold.

Each gets a random generator and own data, and changes one file, all files of one kind, or a key of dataset.yaml.
Whether the result can be used is for the reader to say: tests ask only that check and preprocess agree.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.random import Generator
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from tests.e2e.own_data import OwnData

KINDS = ("image", "dsm", "label")
SENTINELS = (0, 1, 255, -9999, -32768, 65535, 32767, 3.4e38, -3.4e38, float("nan"))


def pattern_of(data: OwnData, kind: str) -> str:
    """Where dataset.yaml says that the files of a kind lie."""
    given = data.facts[kind]
    if kind == "label":
        return given if isinstance(given, str) else given["files"]
    return next(iter(given.values()))["files"]


def files_of(data: OwnData, kind: str) -> list[Path]:
    """The files of a kind."""
    tiles = [tile for subset in ("train", "val", "test") for tile in data.split[subset]]
    paths = dict.fromkeys(data.files / pattern_of(data, kind).format(tile=tile) for tile in tiles)
    return [path for path in paths if path.exists()]


def one_file(rng: Generator, data: OwnData, *kinds: str) -> Path:
    """A file; one that can hold anything if there is one."""
    every = [path for kind in kinds or KINDS for path in files_of(data, kind)]
    every = [path for path in every if path.suffix.lower() == ".tif"] or every
    return every[int(rng.integers(len(every)))]


def keys_of(data: OwnData, kind: str) -> dict[str, Any]:
    """The mapping in dataset.yaml that describes a kind."""
    if kind == "label":
        if isinstance(data.facts["label"], str):
            data.facts["label"] = {"files": data.facts["label"]}
        return data.facts["label"]
    return next(iter(data.facts[kind].values()))


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels, **profile: Any) -> None:
    """Write a raster again with other pixels or another profile; None leaves a key out."""
    with rasterio.open(path) as file:
        driver = file.driver
        pixels_BHW = np.ascontiguousarray(change(file.read()))
        kept = {"crs": file.crs, "transform": file.transform, "nodata": file.nodata, "photometric": "MINISBLACK"}
        tags = (file.scales[0], file.offsets[0], file.units[0])
    bands, height, width = pixels_BHW.shape
    size = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype, "driver": "GTiff"}
    known = {key: value for key, value in (kept | size | profile).items() if value is not None}
    if known.get("transform") == Affine.identity():
        del known["transform"]
    nodata = known.get("nodata")
    if nodata is not None and not fits(nodata, pixels_BHW.dtype):
        del known["nodata"]
    path.unlink()
    draft = path if driver == "GTiff" else path.with_suffix(".draft.tif")
    with rasterio.open(draft, "w", **known) as file:
        file.write(pixels_BHW)
        if tags[:2] != (1.0, 0.0):
            file.scales, file.offsets = (tags[0],) * bands, (tags[1],) * bands
        if tags[2]:
            file.units = (tags[2],) * bands
    if draft != path:
        rasterio.shutil.copy(draft, path, driver=driver)
        draft.unlink()


def fits(value: float, dtype: Any) -> bool:
    """Whether pixels of a type can have a value."""
    if np.dtype(dtype).kind == "f":
        return np.isnan(value) or abs(value) <= np.finfo(dtype).max
    return not np.isnan(value) and float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def block(rng: Generator, pixels_BHW: np.ndarray, share: float) -> tuple[slice, slice]:
    """Some rows and columns of a raster."""
    height, width = pixels_BHW.shape[1:]
    rows, columns = max(1, int(height * share)), max(1, int(width * share))
    row, column = (int(rng.integers(0, size)) for size in (height - rows + 1, width - columns + 1))
    return slice(row, row + rows), slice(column, column + columns)


def nodata_tag(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    with rasterio.open(path) as file:
        values = [value for value in (*SENTINELS, 2) if fits(value, file.dtypes[0])]
    rewritten(path, nodata=values[int(rng.integers(len(values)))])


def scale_and_offset(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data, "dsm", "dsm", "image")
    rewritten(path)
    with rasterio.open(path, "r+") as file:
        file.scales = (float(rng.choice([0.01, 0.1, 0.5, 2])),) * file.count
        file.offsets = (float(rng.choice([0, -100, 200])),) * file.count


def unit_tag(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data, "dsm")
    rewritten(path)
    with rasterio.open(path, "r+") as file:
        file.units = (
            str(rng.choice(["metre", "m", "foot", "US survey foot", "ft", "cm", "furlong", ""])),
        ) * file.count


def reference_system(rng: Generator, data: OwnData) -> None:
    names = [None, "EPSG:25833", "EPSG:4326", "EPSG:25832+7837", "EPSG:25832+6360", "EPSG:3857", "EPSG:32632"]
    name = names[int(rng.integers(len(names)))]
    for path in files_of(data, str(rng.choice(KINDS))) if rng.random() < 0.3 else [one_file(rng, data)]:
        rewritten(path, crs=name and CRS.from_user_input(name))


def system_without_code(rng: Generator, data: OwnData) -> None:
    wkt = CRS.from_epsg(25832).to_wkt().replace(',AUTHORITY["EPSG","25832"]', "").replace("ETRS89 / UTM zone 32N", "x")
    if rng.random() < 0.5:
        wkt = wkt.replace('"false_easting",500000', '"false_easting",500100')
    rewritten(one_file(rng, data), crs=CRS.from_wkt(wkt))


def control_points(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    with rasterio.open(path) as file:
        place, crs, (height, width) = file.transform, file.crs, file.shape
    if place == Affine.identity() or crs is None:
        return
    off_m = float(rng.choice([0, 0, 0.01, 5])) * rng.normal(size=(9, 2))
    spots = [(row, column) for row in (0, height / 2, height) for column in (0, width / 2, width)]
    points = [
        GroundControlPoint(r, c, *(np.array(place @ (c, r)) + off)) for (r, c), off in zip(spots, off_m, strict=True)
    ]
    rewritten(path, transform=None, gcps=points if rng.random() < 0.8 else points[:2])


def world_file(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    with rasterio.open(path) as file:
        t, crs = file.transform, file.crs
    rewritten(path, transform=None, crs=None)
    numbers = [t.a, t.d, t.b, t.e, *(t @ (0.5, 0.5))]
    lines = "".join(f"{number!r}\n" for number in numbers[: 6 if rng.random() < 0.9 else 4])
    path.with_suffix(str(rng.choice([".tfw", ".TFW", ".tifw", ".wld"]))).write_text(lines)
    if crs is not None and rng.random() < 0.5:
        path.with_suffix(".prj").write_text(crs.to_wkt(version="WKT1_ESRI"))
    elif rng.random() < 0.7:
        data.facts["crs"] = "EPSG:25832"


def mask(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    rewritten(path, nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=bool(rng.random() < 0.5)), rasterio.open(path, "r+") as file:
        valid_HW = np.full(file.shape, 255, np.uint8)
        valid_HW[block(rng, valid_HW[None], float(rng.choice([0.1, 0.4, 0.9])))] = 0
        file.write_mask(valid_HW)


def alpha_band(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    where = block(rng, np.zeros((1, 100, 100)), 0.3)

    def add(pixels_BHW: np.ndarray) -> np.ndarray:
        alpha_HW = np.full(pixels_BHW.shape[1:], 255, pixels_BHW.dtype)
        alpha_HW[where] = 0
        return np.concatenate([pixels_BHW, alpha_HW[None]])

    rewritten(path, add)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]


def palette(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data, "label")
    with rasterio.open(path) as file:
        if file.count > 1 or file.dtypes[0] not in ("uint8", "uint16") or file.driver != "GTiff":
            return
    rewritten(path, photometric="palette")
    colours = {value: (*known["rgb"], 255) for value, known in enumerate(data.facts["classes"])}
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, colours)
    if rng.random() < 0.7:
        data.facts["labels"] = "colours"


def pixel_type(rng: Generator, data: OwnData) -> None:
    dtype = str(rng.choice(["uint8", "uint16", "int16", "int32", "float32", "float64"]))
    low, high = (-3.4e38, 3.4e38) if dtype[0] == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    rewritten(one_file(rng, data), lambda pixels: np.nan_to_num(pixels, nan=low).clip(low, high).astype(dtype))


def encoding(rng: Generator, data: OwnData) -> None:
    ways = (
        {"compress": "deflate", "predictor": 2},
        {"compress": "lzw", "tiled": True, "blockxsize": 32, "blockysize": 48},
        {"compress": "zstd", "blockysize": 7},
        {"ENDIANNESS": "BIG", "BIGTIFF": "YES", "interleave": "band"},
        {"SPARSE_OK": "TRUE", "tiled": True, "blockxsize": 16, "blockysize": 16},
    )
    path = one_file(rng, data)
    rewritten(path)
    rewritten(path, **ways[int(rng.integers(len(ways)))])


def other_format(rng: Generator, data: OwnData) -> None:
    """All files of a kind in another format, with the name in dataset.yaml."""
    kind = str(rng.choice(KINDS))
    suffix, driver = [(".img", "HFA"), (".jp2", "JP2OpenJPEG"), (".png", "PNG"), (".asc", "AAIGrid")][rng.integers(4)]
    for path in files_of(data, kind):
        with rasterio.open(path) as file:
            if (driver == "AAIGrid" and file.count > 1) or (driver == "PNG" and file.count == 2):
                return
            rasterio.shutil.copy(file, path.with_suffix(suffix), driver=driver)
    keys_of(data, kind)["files"] = str(Path(pattern_of(data, kind)).with_suffix(suffix))


def virtual(rng: Generator, data: OwnData) -> None:
    """All files of a kind as VRT; with some, the source lies outside of the folder."""
    kind, outside = str(rng.choice(KINDS)), rng.random() < 0.2
    for path in files_of(data, kind):
        with rasterio.open(path) as file:
            rasterio.shutil.copy(file, path.with_suffix(".vrt"), driver="VRT")
        if outside:
            target = data.folder / "elsewhere" / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.move(path, target)
            text = path.with_suffix(".vrt").read_text().replace('relativeToVRT="1"', 'relativeToVRT="0"')
            path.with_suffix(".vrt").write_text(text.replace(f">{path.name}<", f">{target}<"))
    keys_of(data, kind)["files"] = str(Path(pattern_of(data, kind)).with_suffix(".vrt"))
