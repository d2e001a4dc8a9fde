from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

IMAGE = "top_potsdam_2_11_RGB"


def blackened(image_BHW):
    image_BHW[:, :16] = 0
    return image_BHW


def test_black_regions_are_a_suspicion_and_marked_ones_are_repaired(package, rewritten, codes):
    folder = package()
    rewritten(folder, IMAGE, blackened)
    assert codes(folder) == {("image-black", "2_11")}
    rewritten(folder, IMAGE, nodata=0)
    assert codes(folder) == {("image-missing", "2_11")}


def test_an_image_of_one_value_is_an_error(package, rewritten, codes):
    folder = package()
    rewritten(folder, IMAGE, np.zeros_like)
    assert codes(folder) == {("image-constant", "2_11")}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_beyond_the_range_are_a_suspicion_whatever_the_type_of_the_pixels(own_data, rewritten, codes, dtype):
    folder = own_data(range=(0, 100))
    rewritten(folder / "images", "a.tif", lambda image_BHW: image_BHW.astype(dtype))
    rewritten(folder / "images", "b.tif", lambda image_BHW: image_BHW // 3)
    assert codes(folder, dataset="mine") == {("image-range", "a")}


def test_an_image_that_uses_a_small_part_of_the_range_is_a_suspicion(own_data, checked):
    found = checked(own_data(range=(0, 10_000)), dataset="mine").findings
    assert {(one.code, one.tile) for one in found} == {("image-range", "a"), ("image-range", "b")}
    assert "the values are 1 to 249, image.range is 0 to 10000: the whole image is almost black" in found[0].sentence


def test_the_range_is_compared_with_scaled_values(own_data, rewritten, codes):
    folder = own_data(range=(0, 1))
    for tile in "ab":
        path = rewritten(folder / "images", f"{tile}.tif")
        with rasterio.open(path, "r+") as file:
            file.scales = (1 / 255,) * 4
    assert codes(folder, dataset="mine") == {("scale-applied", "a"), ("scale-applied", "b")}


def test_bands_that_the_file_names_otherwise(package, rewritten, codes):
    folder = package()
    rewritten(folder, IMAGE, colours=(ColorInterp.blue, ColorInterp.green, ColorInterp.red))
    assert codes(folder) == {("bands-swapped", "2_11")}


def test_infrared_in_the_place_of_red_is_seen_in_a_single_tile(package, codes):
    """An IRRG picture under the RGB name: vegetation is bright in band 1."""
    folder = package(tiles=("2_10",), layers=("rgb", "irrg", "absolute", "label", "eroded"))
    (infrared,), (photo,) = folder.rglob("*_IRRG.tif"), folder.rglob("*_RGB.tif")
    infrared.replace(photo)
    assert codes(folder) == {("bands-swapped", "2_10")}


def test_a_photo_in_the_place_of_infrared_is_seen_next_to_others(package, codes):
    folder = package(layers=("rgb", "irrg", "absolute", "label", "eroded"))
    for photo in folder.rglob("*_RGB.tif"):
        if "2_11" in photo.name:
            photo.replace(next(folder.rglob("*_2_11_IRRG.tif")))
        else:
            photo.unlink()
    assert codes(folder) == {("bands-swapped", "2_11")}


@pytest.mark.parametrize("tile", ["2_10", "3_11"])
def test_the_sentence_says_the_order_that_would_fit(package, checked, tile):
    report = checked(package(band_swap=(tile,)))
    (one,) = [one for one in report.findings if one.code == "bands-swapped"]
    assert one.tile == tile and "blue, green, red, not red, green, blue" in one.sentence
