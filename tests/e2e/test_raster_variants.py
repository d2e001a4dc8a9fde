"""One fact about a file at a time, and the store that it must give: units, scales, nodata, masks, bands, labels, VRTs.

A variant changes the files or dataset.yaml of a small town, and returns what the store holds instead of the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.enums import ColorInterp

from tests.e2e.own_data import OwnData, described, metres_of
from tests.mutations.rasters import rewritten

SIDE, GSD_M = 96, 0.25
TILES = ("a", "b", "c")
KINDS = ("images", "dsm", "labels")
PALETTE = np.array([(255, 255, 255), (0, 0, 255), (0, 255, 0)], np.uint8)
ROWS = slice(10, 30)
HOLE = (slice(20, 50), slice(40, 70))
US_FOOT_M = 1200 / 3937
Truth = dict[str, np.ndarray]
Variant = Callable[[OwnData, dict[str, Truth]], None]


def truth_of(number: int) -> Truth:
    """Image, heights and label of a tile."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    label = rng.integers(0, 3, (SIDE // 12, SIDE // 12)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
    metres = (260 + 0.01 * columns + 0.02 * rows + 4 * (label == 1)).astype(np.float32)
    image = np.clip(60 + 60 * label + rng.normal(0, 9, (3, SIDE, SIDE)), 1, 254).astype(np.uint8)
    return {"images": image, "dsm": metres[None], "labels": label[None]}


@pytest.fixture
def town(tmp_path) -> tuple[OwnData, dict[str, Truth]]:
    data, truth = described(tmp_path), {tile: truth_of(number) for number, tile in enumerate(TILES)}
    for number, tile in enumerate(TILES):
        place = Affine(GSD_M, 0, 400_000 + number * SIDE * GSD_M, 0, -GSD_M, 5_700_000)
        for kind, pixels_BHW in truth[tile].items():
            path = data.files / f"{kind}/{tile}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"count": len(pixels_BHW), "height": SIDE, "width": SIDE, "dtype": pixels_BHW.dtype}
            with rasterio.open(path, "w", driver="GTiff", crs="EPSG:25832", transform=place, **size) as file:
                file.write(pixels_BHW)
    return data, truth


def every(data: OwnData, kind: str) -> list[Path]:
    return [data.files / f"{kind}/{tile}.tif" for tile in TILES]


def keys(data: OwnData, kind: str, **changes) -> None:
    """Set keys of a layer in dataset.yaml."""
    if kind == "label":
        data.facts["label"] = {"files": "labels/{tile}.tif"} | changes
    else:
        data.facts[kind]["one"] |= changes


def unit(tag: str, metres: float, unit_m: float | None) -> Variant:
    """Heights in another unit, which the file states."""

    def change(data, truth):
        for path in every(data, "dsm"):
            rewritten(path, lambda pixels: (pixels / metres).astype(np.float32))
            with rasterio.open(path, "r+") as file:
                file.units = (tag,)
        keys(data, "dsm", unit_m=unit_m)

    return change


def vertical_feet(data, truth):
    for path in every(data, "dsm"):
        rewritten(path, lambda pixels: (pixels / US_FOOT_M).astype(np.float32), crs="EPSG:25832+6360")


def scale_key(data, truth):
    for path in every(data, "dsm"):
        rewritten(path, lambda pixels: np.rint((pixels - 200) * 100).astype(np.uint16))
    keys(data, "dsm", scale=0.01, offset=200)


def hole(value: float, dtype: str = "float32", unit_m: float = 1.0, key: list | None = None) -> Variant:
    """A value that the file does not mark stands for "not measured"."""

    def put(pixels):
        pixels = (np.rint(pixels / unit_m) if dtype != "float32" else pixels).astype(dtype)
        pixels[0][HOLE] = value
        return pixels

    def change(data, truth):
        for tile, path in zip(TILES, every(data, "dsm"), strict=True):
            rewritten(path, put)
            truth[tile]["dsm"][0][HOLE] = np.nan
        keys(data, "dsm", unit_m=unit_m, nodata=key)

    return change


def real_low_water(data, truth):
    """A lake, 12 m below the land, is no hole."""
    for tile, path in zip(TILES, every(data, "dsm"), strict=True):
        truth[tile]["dsm"][0][HOLE] = 248
        rewritten(path, lambda _, tile=tile: truth[tile]["dsm"])


def masked(kind: str, internal: bool) -> Variant:
    """A mask, inside of the file or next to it, hides some rows."""

    def change(data, truth):
        for tile, path in zip(TILES, every(data, kind), strict=True):
            valid = np.full((SIDE, SIDE), 255, np.uint8)
            valid[ROWS] = 0
            rewritten(path)
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as file:
                file.write_mask(valid)
            hide(truth[tile], kind)

    return change


def hide(truth: Truth, kind: str) -> None:
    """Rows that a layer does not have: heights are missing, labels are ignored."""
    truth["dsm" if kind == "dsm" else "labels"][0][ROWS] = np.nan if kind == "dsm" else 255


def alpha(kind: str, **changes) -> Variant:
    """An alpha band hides some rows."""

    def add(pixels):
        cover = np.full(pixels.shape[1:], 255, pixels.dtype)
        cover[ROWS] = 0
        return np.concatenate([pixels, cover[None]])

    def change(data, truth):
        for tile, path in zip(TILES, every(data, kind), strict=True):
            rewritten(path, add)
            with rasterio.open(path, "r+") as file:
                file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
            hide(truth[tile], kind)
        if changes:
            keys(data, "image", **changes)

    return change


def by_colour(data: OwnData) -> None:
    data.facts["labels"] = "colours"
    for known, colour in zip(data.facts["classes"], PALETTE, strict=True):
        known["rgb"] = colour.tolist()
        del known["value"]


def ignored_colour(data, truth):
    def paint(pixels):
        colours = PALETTE[pixels[0]].transpose(2, 0, 1).copy()
        colours[:, ROWS] = np.array([128, 0, 128], np.uint8)[:, None, None]
        return colours

    by_colour(data)
    for tile, path in zip(TILES, every(data, "labels"), strict=True):
        rewritten(path, paint, photometric="rgb")
        hide(truth[tile], "labels")
    keys(data, "label", ignore=[[128, 0, 128]])


def colour_table(data, truth):
    by_colour(data)
    for path in every(data, "labels"):
        rewritten(path, lambda pixels: np.array([7, 3, 9], np.uint8)[pixels], photometric="palette")
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {7: (255, 255, 255, 255), 3: (0, 0, 255, 255), 9: (0, 255, 0, 255)})


def nodata_replaced(data, truth):
    """The tag names a class; the keys in dataset.yaml replace it."""

    def put(pixels):
        pixels[0, ROWS] = np.array([7, 9] * (SIDE // 2))
        return pixels

    for tile, path in zip(TILES, every(data, "labels"), strict=True):
        rewritten(path, put, nodata=2)
        hide(truth[tile], "labels")
    keys(data, "label", nodata=[9], ignore=[7])


def all_bands_nodata(data, truth):
    """A pixel is missing where all bands have the value, not where one has."""
    for tile, path in zip(TILES, every(data, "images"), strict=True):
        truth[tile]["images"][:, ROWS] = 0
        truth[tile]["images"][0, 60:70] = 0
        rewritten(path, lambda _, tile=tile: truth[tile]["images"])
        hide(truth[tile], "images")
    keys(data, "image", nodata=[0])


def scaled_image(data, truth):
    for path in every(data, "images"):
        rewritten(path, lambda pixels: pixels.astype(np.uint16) * 100)
        with rasterio.open(path, "r+") as file:
            file.scales = (1 / 25_500,) * 3
    keys(data, "image", range=[0, 1])


def picked_bands(data, truth):
    for path in every(data, "images"):
        rewritten(path, lambda pixels: np.stack([pixels[2], 0 * pixels[0], pixels[0], pixels[1]]))
    keys(data, "image", bands={"red": 3, "green": 4, "blue": 1})


def nested_vrt(data, truth):
    for tile, path in zip(TILES, every(data, "dsm"), strict=True):
        inner, outer = path.with_suffix(".vrt"), data.files / f"mosaics/{tile}.vrt"
        outer.parent.mkdir(exist_ok=True)
        for source, target in ((path, inner), (inner, outer)):
            with rasterio.open(source) as file:
                rasterio.shutil.copy(file, target, driver="VRT")
    keys(data, "dsm", files="mosaics/{tile}.vrt")


def infrared_called_alpha(data, truth):
    """A fourth band that the file calls alpha, and that dataset.yaml turns off."""
    for path in every(data, "images"):
        rewritten(path, lambda pixels: np.concatenate([pixels, part_of(ROWS, 90)[None]]))
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
    keys(data, "image", nodata=[])


def part_of(rows: slice, value: int) -> np.ndarray:
    """A band that is 0 in some rows."""
    band = np.full((SIDE, SIDE), value, np.uint8)
    band[rows] = 0
    return band


def nodata_colour_replaced(data, truth):
    """A colour table whose nodata index is a class; dataset.yaml says that it is none."""
    colour_table(data, truth)
    for path in every(data, "labels"):
        with rasterio.open(path, "r+") as file:
            file.nodata = 7
    keys(data, "label", nodata=[])


def band_mask(data, truth):
    """A VRT whose band has a mask of its own."""
    for tile, path in zip(TILES, every(data, "dsm"), strict=True):
        with rasterio.open(path) as file:
            place, profile = file.transform, file.profile
        with rasterio.open(path.with_name(f"valid_{tile}.tif"), "w", **(profile | {"dtype": "uint8"})) as file:
            file.write(part_of(ROWS, 255), 1)
        source = (
            '<SimpleSource><SourceFilename relativeToVRT="1">{}.tif</SourceFilename><SourceBand>1</SourceBand>'
            "</SimpleSource>"
        )
        mask = f'<MaskBand><VRTRasterBand dataType="Byte">{source.format(f"valid_{tile}")}</VRTRasterBand></MaskBand>'
        path.with_suffix(".vrt").write_text(
            f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:25832</SRS>'
            f"<GeoTransform>{','.join(map(str, place.to_gdal()))}</GeoTransform>"
            f'<VRTRasterBand dataType="Float32" band="1">{mask}{source.format(tile)}</VRTRasterBand></VRTDataset>'
        )
        hide(truth[tile], "dsm")
    keys(data, "dsm", files="dsm/{tile}.vrt")


VARIANTS: dict[str, Variant] = {
    "heights in feet by tag": unit("ft", 0.3048, None),
    "heights in US feet by tag": unit("US survey foot", US_FOOT_M, 1.0),
    "heights in feet by tag and key": unit("foot", 0.3048, 0.3048),
    "heights in feet by vertical system": vertical_feet,
    "heights with scale and offset by key": scale_key,
    **{f"hole of {value:g}": hole(value) for value in (0, -1, -9999, 9999, 1e6, -3.4028234663852886e38)},
    "hole of 65535 in centimetres": hole(65535, "uint16", 0.01),
    "hole of -32768 in centimetres": hole(-32768, "int16", 0.01),
    "hole by key": hole(255, key=[255]),
    "lake": real_low_water,
    **{f"{kind} mask {where}": masked(kind, where == "inside") for kind in KINDS for where in ("inside", "beside")},
    "alpha of images": alpha("images"),
    "alpha of heights": alpha("dsm"),
    "alpha of labels": alpha("labels"),
    "alpha and picked bands": alpha("images", bands={"red": 1, "green": 2, "blue": 3}),
    "ignored colour": ignored_colour,
    "colour table": colour_table,
    "nodata and ignore of labels by key": nodata_replaced,
    "image nodata in all bands": all_bands_nodata,
    "image with a scale": scaled_image,
    "picked bands": picked_bands,
    "VRT of a VRT": nested_vrt,
    "near infrared called alpha": infrared_called_alpha,
    "nodata colour of labels by key": nodata_colour_replaced,
    "mask of a band of a VRT": band_mask,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_store_holds_what_the_files_and_dataset_yaml_say(town, name):
    data, truth = town
    VARIANTS[name](data, truth)
    ended = data.run()
    assert ended.store is not None and not ended.found(), ended.said()
    for entry in ended.store.manifest.tiles:
        tile, want = ended.store[entry], truth[entry.id]
        np.testing.assert_array_equal(tile.label_HW, want["labels"][0])
        np.testing.assert_allclose(metres_of(ended.store, entry.id), want["dsm"][0], atol=0.006)
        shown = (tile.image_HWC.transpose(2, 0, 1), want["images"])
        np.testing.assert_array_equal(*(pixels[:, tile.label_HW != 255] for pixels in shown))
