import numpy as np
import pytest
from rasterio import Affine
from rasterio.warp import transform

from components.common.errors import DataError
from components.common.rasterfiles.grids import Grid, Rules, fit
from components.common.rasterfiles.position import parse_crs, position_of
from components.common.rasterfiles.rasters import open_raster
from components.common.readers import warping
from components.common.readers.layers import Layer, bands_of, pick
from tests.components.common.readers.conftest import slope as plane
from tests.components.common.readers.conftest import write

HERE = Affine(0.5, 0, 366000, 0, -0.5, 5807000)
UTM33, UTM32 = parse_crs("EPSG:32633"), parse_crs("EPSG:32632")
IMAGE = Grid(60, 80, HERE, UTM33)


def over(tmp_path, pixels_BHW, use, *, image=IMAGE, warp=True, heights=True, max_pad_px=8, **profile):
    """What `use` makes of a layer on the image's grid, and the codes of the notes."""
    path = tmp_path / "a.tif"
    path.unlink(missing_ok=True)
    write(path, pixels_BHW, **profile)
    with open_raster(path, tmp_path) as file:
        position = position_of(file, None)
        grid = Grid(file.header.height_px, file.header.width_px, position.transform, position.crs)
        place = fit(path, grid, image, Rules(max_pad_px, warp, heights))
        bands = pick(file, None, len(pixels_BHW), None, "", "")
        return use(Layer(file, bands, place)), [note.code for note in place.notes]


def as_metres(pixels_HW, missing_HW, row, column):
    """Heights of pixels, as `heights.py` gives them: NaN where nothing was measured."""
    metres_HW = pixels_HW.astype(np.float32)
    metres_HW[metres_HW < -500] = np.nan
    if missing_HW is not None:
        metres_HW[missing_HW] = np.nan
    return metres_HW


def metres(layer, step=17):
    starts = range(0, IMAGE.height_px, step)
    return np.concatenate([layer.heights(slice(s, min(s + step, IMAGE.height_px)), as_metres) for s in starts])


def picture(layer, step=17):
    starts = range(0, IMAGE.height_px, step)
    parts = [layer.pixels(slice(s, min(s + step, IMAGE.height_px))) for s in starts]
    masks = [np.zeros(pixels.shape[1:], bool) if mask is None else mask for pixels, mask in parts]
    return np.concatenate([pixels for pixels, _ in parts], axis=1), np.concatenate(masks)


def test_a_layer_on_the_images_grid_comes_as_it_is(tmp_path):
    dsm_BHW = plane(HERE, 60, 80)[None]
    got_HW, codes = over(tmp_path, dsm_BHW, metres, transform=HERE, crs="EPSG:32633")
    np.testing.assert_array_equal(got_HW, dsm_BHW[0])
    assert codes == []


@pytest.mark.parametrize("step", [1, 3, 100])
def test_padded_heights_repeat_the_edge_at_every_side(tmp_path, step):
    inner_HW = plane(HERE, 60, 80)[3:58, 2:79]
    place = HERE @ Affine.translation(2, 3)
    got_HW, codes = over(
        tmp_path, inner_HW[None], lambda layer: metres(layer, step), warp=False, transform=place, crs="EPSG:32633"
    )
    np.testing.assert_array_equal(got_HW, np.pad(inner_HW, ((3, 2), (2, 1)), mode="edge"))
    assert codes == ["padded"]


def test_padded_pictures_are_missing_at_the_edge(tmp_path):
    label_BHW = np.full((3, 57, 80), 7, np.uint8)
    (pixels_BHW, missing_HW), _ = over(tmp_path, label_BHW, picture, warp=False, heights=False)
    assert pixels_BHW.shape == (3, 60, 80)
    assert np.argwhere(missing_HW.any(1)).ravel().tolist() == [57, 58, 59]


@pytest.mark.parametrize(
    ("place", "height", "width"),
    [
        (HERE @ Affine.translation(-10.3, -7.6), 90, 110),  # shifted by parts of a pixel
        (HERE @ Affine.scale(2) @ Affine.translation(-3, -3), 40, 50),  # half the resolution
        (HERE @ Affine.scale(0.25) @ Affine.translation(-20, -20), 290, 370),  # four times the resolution
        (HERE @ Affine.rotation(12) @ Affine.translation(-40, -40), 160, 190),
        (HERE @ Affine.translation(-2000.5, -1000.5), 1500, 2500),  # a mosaic around many tiles
    ],
)
def test_a_warped_slope_is_the_same_slope(tmp_path, place, height, width):
    dsm_BHW = plane(place, height, width)[None]
    got_HW, codes = over(tmp_path, dsm_BHW, metres, transform=place, crs="EPSG:32633")
    np.testing.assert_allclose(got_HW, plane(HERE, 60, 80), atol=0.01)
    assert codes == ["warped"]


@pytest.mark.parametrize("step", [1, 17])
def test_a_larger_layer_on_the_same_grid_is_cut_and_no_pixel_changes(tmp_path, step):
    place = HERE @ Affine.translation(-20, -10)
    heights_HW = np.random.default_rng(0).normal(40, 5, (90, 120)).astype(np.float32)
    label_BHW = np.random.default_rng(0).integers(0, 9, (1, 90, 120), dtype=np.uint8)
    here = {"transform": place, "crs": "EPSG:32633"}
    got_HW, codes = over(tmp_path, heights_HW[None], lambda layer: metres(layer, step), **here)
    np.testing.assert_array_equal(got_HW, heights_HW[10:70, 20:100])
    assert codes == []
    (pixels_BHW, missing_HW), _ = over(tmp_path, label_BHW, lambda layer: picture(layer, step), heights=False, **here)
    np.testing.assert_array_equal(pixels_BHW, label_BHW[:, 10:70, 20:100])
    assert not missing_HW.any()


@pytest.mark.parametrize("step", [1, 17])
def test_a_layer_over_a_part_of_the_image_is_missing_elsewhere(tmp_path, step):
    place = HERE @ Affine.translation(30, 20)
    heights_HW = np.random.default_rng(0).normal(40, 5, (90, 120)).astype(np.float32)
    got_HW, codes = over(
        tmp_path, heights_HW[None], lambda layer: metres(layer, step), transform=place, crs="EPSG:32633"
    )
    np.testing.assert_array_equal(got_HW[20:, 30:], heights_HW[:40, :50])
    assert (np.isfinite(got_HW).sum(), codes) == (40 * 50, ["partly-covered"])


def test_a_layer_in_another_reference_system_is_brought_into_the_images(tmp_path):
    corner_x, corner_y = transform(UTM33, UTM32, [HERE.c], [HERE.f])
    place = Affine(0.5, 0, corner_x[0] - 40, 0, -0.5, corner_y[0] + 40)
    x, y = place @ (np.arange(300) + 0.5, np.full(300, 0.5))
    rows, columns = np.mgrid[:300, :300] + 0.5
    x, y = place @ (columns.ravel(), rows.ravel())
    east, north = transform(UTM32, UTM33, x, y)
    dsm_HW = 40 + 0.1 * (np.array(east) - 366000) - 0.05 * (np.array(north) - 5807000)
    dsm_BHW = dsm_HW.reshape(1, 300, 300).astype(np.float32)
    got_HW, codes = over(tmp_path, dsm_BHW, metres, transform=place, crs="EPSG:32632")
    np.testing.assert_allclose(got_HW, plane(HERE, 60, 80), atol=0.02)
    assert codes == ["warped"]


@pytest.mark.parametrize("nodata", [-9999.0, None])
def test_what_was_not_measured_is_never_mixed_into_heights(tmp_path, nodata):
    place = HERE @ Affine.translation(-10.5, -10.5)
    dsm_BHW = plane(place, 90, 110)[None]
    dsm_BHW[0, 40:44, 50:54] = -9999  # by rows 29.5 to 33.5 and columns 39.5 to 43.5 of the image
    dsm_BHW[0, 60, 70] = np.nan
    got_HW, _ = over(tmp_path, dsm_BHW, metres, transform=place, crs="EPSG:32633", nodata=nodata)
    missing_HW = np.isnan(got_HW)
    assert missing_HW[30:33, 40:43].all()
    assert not missing_HW[:28].any()
    assert missing_HW.sum() <= 5 * 5 + 4
    np.testing.assert_allclose(got_HW[~missing_HW], plane(HERE, 60, 80)[~missing_HW], atol=0.06)


def test_what_a_layer_does_not_cover_is_missing(tmp_path):
    place = HERE @ Affine.translation(30, 20)
    got_HW, _ = over(tmp_path, plane(place, 90, 110)[None], metres, transform=place, crs="EPSG:32633")
    assert (np.isnan(got_HW[:20]).all(), np.isnan(got_HW[:, :30]).all()) == (True, True)
    assert np.isfinite(got_HW[20:, 30:]).all()
    label_BHW = np.full((1, 90, 110), 0, np.uint8)
    (_, missing_HW), _ = over(tmp_path, label_BHW, picture, transform=place, crs="EPSG:32633")
    assert (missing_HW[:20].all(), missing_HW[:, :30].all(), missing_HW[20:, 30:].any()) == (True, True, False)
    elsewhere = HERE @ Affine.translation(5000, 0)
    got_HW, _ = over(tmp_path, plane(elsewhere, 90, 110)[None], metres, transform=elsewhere, crs="EPSG:32633")
    assert np.isnan(got_HW).all()


def test_warped_pictures_take_the_nearest_pixel_and_no_other_value(tmp_path):
    place = HERE @ Affine.scale(2)
    label_BHW = np.random.default_rng(0).choice(np.array([0, 100, 255], np.uint8), (3, 30, 40))
    (pixels_BHW, missing_HW), _ = over(tmp_path, label_BHW, picture, transform=place, crs="EPSG:32633")
    np.testing.assert_array_equal(pixels_BHW, label_BHW.repeat(2, 1).repeat(2, 2))
    assert not missing_HW.any()


def test_a_fine_layer_is_warped_in_parts_the_same_way(tmp_path, monkeypatch):
    place = HERE @ Affine.scale(0.25) @ Affine.translation(-20, -20)
    dsm_BHW = plane(place, 290, 370)[None] + np.random.default_rng(0).normal(size=(1, 290, 370)).astype(np.float32)
    whole_HW, _ = over(tmp_path, dsm_BHW, metres, transform=place, crs="EPSG:32633")
    monkeypatch.setattr(warping, "MOST_PX", 10_000)
    parts_HW, _ = over(tmp_path, dsm_BHW, metres, transform=place, crs="EPSG:32633")
    np.testing.assert_allclose(parts_HW, whole_HW, atol=1e-3)


@pytest.mark.parametrize("ratio", [2, 2.4, 4.1])
def test_a_fine_layer_is_filtered_the_same_way_where_it_ends(tmp_path, ratio):
    place = HERE @ Affine.scale(1 / ratio) @ Affine.translation(-20, -20)
    side = round(130 * ratio)
    dsm_BHW = np.random.default_rng(0).normal(40, 5, (1, side, side)).astype(np.float32)
    half = 20 + round(30 * ratio)  # ends in the middle of the image
    facts = {"transform": place, "crs": "EPSG:32633"}
    all_HW, _ = over(tmp_path, dsm_BHW, metres, **facts)
    half_HW, _ = over(tmp_path, dsm_BHW[:, :half, :half], metres, **facts)
    inner = slice(0, 30 - 3)
    np.testing.assert_allclose(half_HW[inner, inner], all_HW[inner, inner], atol=1e-4)


@pytest.mark.parametrize(
    ("place", "warp"),
    [
        (HERE, False),
        (HERE @ Affine.translation(2, 3), False),  # padded
        (HERE @ Affine.translation(-20, -10), True),  # a larger layer
        (HERE @ Affine.translation(30, 20), True),  # covers a part
        (HERE @ Affine.rotation(12) @ Affine.translation(-20, -20), True),
    ],
)
@pytest.mark.parametrize("heights", [True, False])
def test_columns_of_rows_are_a_part_of_these_rows(tmp_path, place, warp, heights):
    pixels_BHW = np.random.default_rng(0).normal(40, 5, (1, 60, 80)).astype(np.float32)
    pixels_BHW[:, 40:44, 50:54] = -9999

    def use(layer):
        rows = slice(15, 58)
        for columns in (slice(0, 80), slice(79, 80), slice(33, 71)):
            if heights:
                complete_hW, part_hw = layer.heights(rows, as_metres), layer.heights(rows, as_metres, columns)
                rtol = 1e-5 if layer.fit.offset is None else 0  # a warp rounds positions
                np.testing.assert_allclose(part_hw, complete_hW[:, columns], rtol=rtol)
                continue
            pixels_BhW, missing_hW = layer.pixels(rows)
            pixels_Bhw, missing_hw = layer.pixels(rows, columns)
            missing_hW = np.zeros(pixels_BhW.shape[1:], bool) if missing_hW is None else missing_hW
            missing_hw = np.zeros(pixels_Bhw.shape[1:], bool) if missing_hw is None else missing_hw
            np.testing.assert_array_equal(missing_hw, missing_hW[:, columns])
            np.testing.assert_array_equal(pixels_Bhw[:, ~missing_hw], pixels_BhW[:, :, columns][:, ~missing_hw])

    facts = {"transform": place, "crs": "EPSG:32633", "nodata": -9999}
    over(tmp_path, pixels_BHW[:, :57, :78] if not warp else pixels_BHW, use, warp=warp, heights=heights, **facts)


def test_benchmark_data_are_never_warped(tmp_path):
    with pytest.raises(DataError, match="20 px right of.*check that both files are of this tile"):
        over(tmp_path, np.zeros((1, 60, 80), np.uint8), metres, warp=False, transform=HERE @ Affine.translation(20, 0))


@pytest.mark.parametrize(("image", "place"), [(Grid(60, 80, None, None), HERE), (IMAGE, None)])
def test_without_a_georeference_of_both_the_sizes_must_match(tmp_path, image, place):
    with pytest.raises(DataError, match="a.tif: is 90 x 60 px.*add a world file"):
        over(tmp_path, np.zeros((1, 60, 90), np.uint8), metres, image=image, transform=place)


@pytest.mark.parametrize(
    ("height", "width", "multiple"), [(6000, 6000, 10), (1, 1, 1), (130, 200_000, 10), (999, 7, 6)]
)
def test_bands_cover_every_row_once_and_end_at_multiples(height, width, multiple):
    bands = bands_of(Grid(height, width, None, None), multiple)
    assert [row for band in bands for row in range(band.start, band.stop)] == list(range(height))
    assert all((band.stop - band.start) % multiple == 0 for band in bands[:-1])
