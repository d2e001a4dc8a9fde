from pathlib import Path

import pytest
from rasterio import Affine

from components.common.readers.grids import GridError, Padding, grid_of, padding
from components.common.readers.rasters import Grid, parse_crs

HERE = Affine(0.05, 0, 366000, 0, -0.05, 5807000)
UTM33, UTM32 = parse_crs("EPSG:32633"), parse_crs("EPSG:32632")
DSM = Path("dsm_potsdam_03_13.tif")


def grid(height=100, width=120, transform=HERE, crs=UTM33):
    return Grid(height, width, transform, crs)


IMAGE = grid_of(grid(), grid(), UTM33)


def test_a_layer_of_the_images_size_lacks_nothing():
    lacks = padding(DSM, grid(), IMAGE, max_px=0)
    assert not lacks
    assert lacks.sides() == ((0, 0), (0, 0))


def test_one_missing_column_is_padded_at_the_right():
    lacks = padding(DSM, grid(width=119), IMAGE, max_px=8)
    assert lacks
    assert lacks == Padding(top=0, bottom=0, left=0, right=1)
    assert str(lacks) == "1 px at the right"


def test_the_missing_edge_is_found_from_the_place_of_the_layer():
    lacks = padding(DSM, grid(height=98, width=119, transform=HERE @ Affine.translation(1, 2)), IMAGE, max_px=8)
    assert lacks == Padding(top=2, bottom=0, left=1, right=0)


def test_a_layer_without_a_place_starts_at_the_upper_left_corner():
    assert padding(DSM, grid(height=97, transform=None, crs=None), IMAGE, max_px=3) == Padding(0, 3, 0, 0)


@pytest.mark.parametrize(("height", "width"), [(100, 111), (91, 120), (101, 120), (100, 121)])
def test_a_layer_much_smaller_or_any_larger_than_the_image_is_an_error_with_both_sizes(height, width):
    with pytest.raises(GridError) as caught:
        padding(DSM, grid(height, width), IMAGE, max_px=8)
    assert str(caught.value) == (
        f"{DSM}: is {width} x {height} px (w x h), the image 120 x 100; up to 8 px missing at an edge are padded "
        "(preprocess.max_pad_px)"
    )


def test_a_shift_of_up_to_half_a_pixel_is_the_same_grid():
    assert not padding(DSM, grid(transform=HERE @ Affine.translation(0.5, -0.49)), IMAGE, max_px=0)
    assert not padding(DSM, grid(transform=HERE @ Affine.scale(1.004, 1)), IMAGE, max_px=0)  # 0.48 px at the right
    with pytest.raises(GridError, match="lies 0.60 px off the image's grid, at most 0.5 is allowed"):
        padding(DSM, grid(transform=HERE @ Affine.scale(1.005, 1)), IMAGE, max_px=0)


@pytest.mark.parametrize("shift", [(1, 0), (0, -3), (4000, 0)])
def test_a_shift_by_whole_pixels_is_an_error_that_names_it(shift):
    with pytest.raises(GridError, match=f"{shift[0]} px right of and {shift[1]} px below the image's corner"):
        padding(DSM, grid(transform=HERE @ Affine.translation(*shift)), IMAGE, max_px=8)


@pytest.mark.parametrize(
    "warp", [Affine.translation(-0.4, 0) @ Affine.scale(1.01), Affine.scale(2), Affine.rotation(1)]
)
def test_another_resolution_or_a_rotation_is_an_error(warp):
    with pytest.raises(GridError, match=r"dsm_potsdam_03_13.tif: lies \d+\.\d\d px off the image's grid"):
        padding(DSM, grid(transform=HERE @ warp), IMAGE, max_px=8)


def test_another_reference_system_is_an_error_with_both():
    with pytest.raises(GridError, match="its reference system is EPSG:32632, the image's EPSG:32633"):
        padding(DSM, grid(crs=UTM32), IMAGE, max_px=8)


def test_the_grid_is_the_images_then_the_dsms_then_the_default():
    there = HERE @ Affine.translation(9, 9)
    assert grid_of(grid(), grid(transform=there, crs=UTM32), UTM32) == IMAGE
    bare = grid(transform=None, crs=None)
    assert (grid_of(bare, grid(transform=there, crs=None), UTM32).transform) == there
    assert (grid_of(bare, grid(), UTM32).crs, grid_of(bare, bare, UTM32).crs) == (UTM33, UTM32)
    assert grid_of(bare, bare, UTM32).transform is None
    assert not padding(DSM, grid(), grid_of(bare, bare, UTM33), max_px=0)
