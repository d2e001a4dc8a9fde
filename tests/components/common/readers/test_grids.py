from dataclasses import replace
from pathlib import Path

import pytest
from rasterio import Affine

from components.common.rasterfiles.grids import Grid, Rules, covered_share, fit
from components.common.rasterfiles.position import parse_crs
from components.common.rasterfiles.rasters import Rejected

HERE = Affine(0.05, 0, 366000, 0, -0.05, 5807000)
UTM33, UTM32 = parse_crs("EPSG:32633"), parse_crs("EPSG:32632")
DSM = Path("dsm_potsdam_03_13.tif")
BENCHMARK = Rules(max_pad_px=8, warp=False, heights=True)
OWN = replace(BENCHMARK, warp=True)


def grid(height=100, width=120, transform=HERE, crs=UTM33):
    return Grid(height, width, transform, crs)


def moved(right, down, **size):
    """A layer that starts so many pixels right of and below the image's corner."""
    return grid(transform=HERE @ Affine.translation(right, down), **size)


IMAGE, NOWHERE = grid(), grid(transform=None, crs=None)


def codes(found):
    return [note.code for note in found.notes]


@pytest.mark.parametrize("rules", [BENCHMARK, OWN])
def test_a_layer_on_the_images_grid_lacks_nothing(rules):
    found = fit(DSM, grid(), IMAGE, rules)
    assert (found.offset, found.extended, found.notes, found.doubt) == ((0, 0), True, (), "")


@pytest.mark.parametrize("rules", [BENCHMARK, OWN])
def test_one_missing_column_is_padded_at_the_right(rules):
    found = fit(DSM, grid(width=119), IMAGE, rules)
    assert (found.offset, found.extended, codes(found)) == ((0, 0), True, ["padded"])
    assert found.notes[0].sentence.startswith("smaller than the image; padded 1 px at the right by repeating the edge")
    label = fit(DSM, grid(width=119), IMAGE, replace(rules, heights=False))
    assert label.notes[0].sentence.startswith("smaller than the image; padded 1 px at the right with the label 255")


def test_the_missing_edge_is_found_from_the_position_of_the_layer():
    found = fit(DSM, moved(1, 2, height=98, width=119), IMAGE, BENCHMARK)
    assert (found.offset, codes(found)) == ((-2, -1), ["padded"])
    assert "padded 2 px at the top, 1 px at the left by" in found.notes[0].sentence


@pytest.mark.parametrize(("image", "layer"), [(NOWHERE, IMAGE), (IMAGE, NOWHERE), (NOWHERE, NOWHERE)])
@pytest.mark.parametrize("rules", [BENCHMARK, OWN])
def test_without_both_positions_a_layer_of_the_images_size_lies_on_it(image, layer, rules):
    assert fit(DSM, layer, image, rules).offset == (0, 0)


@pytest.mark.parametrize("size", [(99, 120), (100, 121), (120, 100), (140, 160)])
@pytest.mark.parametrize("image", [IMAGE, NOWHERE])
def test_without_both_positions_another_size_is_rejected_in_own_data(image, size):
    layer = grid(*size) if image is NOWHERE else replace(NOWHERE, height_px=size[0], width_px=size[1])
    with pytest.raises(
        Rejected, match=rf"is {size[1]} x {size[0]} px, the image 120 x 100 px.*; add a world file"
    ) as caught:
        fit(DSM, layer, image, OWN)
    assert caught.value.code == "grid-mismatch"


@pytest.mark.parametrize(("lacks", "fits"), [(3, True), (8, True), (9, False), (-1, False)])
def test_a_benchmark_layer_without_position_may_lack_up_to_the_limit_at_right_and_bottom(lacks, fits):
    layer = replace(NOWHERE, height_px=100 - lacks)
    if fits:
        found = fit(DSM, layer, IMAGE, BENCHMARK)
        assert (found.offset, found.extended, codes(found)) == ((0, 0), True, ["padded"])
        assert f"padded {lacks} px at the bottom by" in found.notes[0].sentence
        return
    with pytest.raises(Rejected, match="add a world file"):
        fit(DSM, layer, IMAGE, BENCHMARK)


@pytest.mark.parametrize(("height", "width"), [(100, 111), (91, 120), (101, 120), (100, 121)])
def test_a_benchmark_layer_much_smaller_or_any_larger_than_the_image_is_rejected_with_both_sizes(height, width):
    with pytest.raises(Rejected) as caught:
        fit(DSM, grid(height, width), IMAGE, BENCHMARK)
    assert caught.value.code == "grid-mismatch"
    assert str(caught.value).startswith(
        f"{DSM}: is {width} x {height} px (width x height) 0 px right of and 0 px below"
    )
    assert "the image is 120 x 100 px; up to 8 px missing at an edge are padded (preprocess.max_pad_px)" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("shift", "shift_px"),
    [(Affine.translation(0.5, -0.49), 0.5), (Affine.translation(0, 0.3), 0.3), (Affine.scale(1.004, 1), 0.48)],
)
def test_benchmark_data_are_read_as_they_are_up_to_half_a_pixel_and_that_is_noted(shift, shift_px):
    found = fit(DSM, grid(transform=HERE @ shift), IMAGE, BENCHMARK)
    assert (found.offset, codes(found)) == ((0, 0), ["grid-shift"])
    assert found.notes[0].sentence.startswith(f"lies {shift_px:.2f} px off the image's grid; ")


def test_benchmark_data_beyond_half_a_pixel_are_rejected():
    with pytest.raises(Rejected, match="it lies 0.60 px off the image's grid; check that both files are of this tile"):
        fit(DSM, grid(transform=HERE @ Affine.scale(1.005, 1)), IMAGE, BENCHMARK)


@pytest.mark.parametrize("shift_px", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("rules", [BENCHMARK, OWN])
def test_up_to_a_tenth_of_a_pixel_is_the_same_grid(shift_px, rules):
    found = fit(DSM, moved(shift_px, -shift_px), IMAGE, rules)
    assert (found.offset, found.notes) == ((0, 0), ())


@pytest.mark.parametrize("shift_px", [0.11, 0.25, 0.5, 0.89])
@pytest.mark.parametrize("heights", [True, False])
def test_own_data_beyond_a_tenth_of_a_pixel_are_warped_and_that_is_noted(shift_px, heights):
    found = fit(DSM, moved(shift_px, 0), IMAGE, replace(OWN, heights=heights))
    assert (found.offset, codes(found)) == (None, ["warped" if heights else "label-warped"])
    off_px = min(shift_px, 1 - shift_px)
    assert found.notes[0].sentence.startswith(f"it lies {off_px:.2f} px off the image's grid; warped to")


@pytest.mark.parametrize("shift", [(1, 0), (0, -3), (4000, 0)])
def test_a_benchmark_layer_off_by_whole_pixels_is_rejected_with_the_shift(shift):
    with pytest.raises(Rejected, match=f"{shift[0]} px right of and {shift[1]} px below the image's corner"):
        fit(DSM, moved(*shift), IMAGE, BENCHMARK)


@pytest.mark.parametrize(
    "change", [Affine.translation(-0.4, 0) @ Affine.scale(1.02), Affine.scale(2), Affine.rotation(1)]
)
def test_another_resolution_or_a_rotation_is_rejected_in_a_benchmark_and_warped_in_own_data(change):
    layer = grid(transform=HERE @ change)
    with pytest.raises(
        Rejected, match="its grid has another resolution, origin or orientation than the image's; check"
    ):
        fit(DSM, layer, IMAGE, BENCHMARK)
    assert (fit(DSM, layer, IMAGE, OWN).offset, codes(fit(DSM, layer, IMAGE, OWN))) == (None, ["warped"])


def test_another_reference_system_is_rejected_in_a_benchmark_and_warped_in_own_data():
    layer = grid(crs=UTM32)
    with pytest.raises(Rejected, match="its reference system is EPSG:32632, the image's EPSG:32633; check that"):
        fit(DSM, layer, IMAGE, BENCHMARK)
    there = fit(DSM, layer, IMAGE, OWN)
    assert (there.offset, codes(there)) == (None, ["warped"])
    assert there.doubt.startswith("covers 0 % of the image: is it of another place")


def test_a_compound_reference_system_is_that_of_the_image():
    found = fit(DSM, grid(crs=parse_crs("EPSG:25832+7837")), grid(crs=parse_crs("EPSG:25832")), OWN)
    assert (found.offset, found.notes) == ((0, 0), ())


def test_a_larger_layer_on_the_same_grid_is_cut_without_resampling():
    found = fit(DSM, moved(-30, -20, height=400, width=500), IMAGE, OWN)
    assert (found.offset, found.notes, found.doubt) == ((20, 30), (), "")


def test_a_layer_that_covers_a_part_is_used_where_it_is_and_the_share_is_noted():
    found = fit(DSM, moved(24, 0), IMAGE, OWN)
    assert (found.offset, found.extended, codes(found), found.doubt) == ((0, -24), False, ["partly-covered"], "")
    assert found.notes[0].sentence.startswith("covers 80.0 % of the image; the rest is not measured")
    label = fit(DSM, moved(24, 0), IMAGE, replace(OWN, heights=False))
    assert label.notes[0].sentence.startswith("covers 80.0 % of the image; the rest is ignored")


@pytest.mark.parametrize(("right", "doubted"), [(59, False), (61, True), (121, True)])
def test_a_layer_that_covers_less_than_half_may_be_of_another_place(right, doubted):
    found = fit(DSM, moved(right, 0), IMAGE, OWN)
    assert bool(found.doubt) == doubted
    if doubted:
        assert found.doubt.startswith(f"covers {max(0, 100 * (1 - right / 120)):.0f} % of the image: ")


def test_the_covered_share_is_that_of_areas_across_resolutions_and_rotations():
    assert covered_share(IMAGE, IMAGE) == pytest.approx(1)
    assert covered_share(moved(60, 50), IMAGE) == pytest.approx(0.25)
    assert covered_share(grid(50, 60, HERE @ Affine.scale(2)), IMAGE) == pytest.approx(1)
    turned = HERE @ Affine.translation(60, 50) @ Affine.rotation(90) @ Affine.translation(-60, -50)
    assert covered_share(grid(transform=turned), IMAGE) == pytest.approx(100 / 120)


@pytest.mark.parametrize("shift", [(3, 0), (0, 0)])
def test_a_layer_that_states_no_crs_has_the_images_and_that_is_noted_where_they_differ(shift):
    found = fit(DSM, moved(*shift, crs=None), IMAGE, OWN)
    assert found.offset == (-shift[1], -shift[0])
    assert ("crs-assumed" in codes(found)) == (shift != (0, 0))
    if shift != (0, 0):
        assert found.notes[0].sentence.startswith("states no reference system, the image's EPSG:32633 is assumed")
