import numpy as np
import pytest

from components.common.data.layerinfo import ImageInfo
from components.common.rasterfiles.rasters import Rejected

BYTES = np.random.default_rng(0).integers(0, 256, (3, 20, 10), dtype=np.uint8)


def info(low=0.0, high=255.0, bands=3, **changes):
    names = tuple(f"b{n}" for n in range(bands))
    return ImageInfo(files="a.tif", bands=names, range=(low, high), mean=(0.5,) * bands, std=(0.2,) * bands, **changes)


def test_eight_bits_of_the_full_range_are_stored_as_they_are(tile):
    tile.write("image", BYTES)
    image_HWC, missing_HW, codes = tile.image(image=info())
    np.testing.assert_array_equal(image_HWC, np.moveaxis(BYTES, 0, -1))
    assert (missing_HW, codes) == (None, [])


def test_rows_of_an_image_are_cut_out_of_it(tile):
    tile.write("image", BYTES)
    for given in (info(), info(high=100)):
        layer = tile.reader(image=given).layers["image"]
        all_HWC = layer.rows(slice(0, 20)).image_hWC
        np.testing.assert_array_equal(layer.rows(slice(5, 9)).image_hWC, all_HWC[5:9])
        np.testing.assert_array_equal(layer.rows(slice(5, 9)).pixels_BhW, BYTES[:, 5:9])


def test_the_range_applies_to_eight_bits_too(tile):
    tile.write("image", np.array([[[0, 20, 60, 100, 101, 255]]], np.uint8))
    image_HWC, missing_HW, _ = tile.image(image=info(20, 100, bands=1))
    assert image_HWC[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]
    assert missing_HW is None


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_the_range_becomes_0_to_255_and_what_lies_beyond_is_limited(tile, dtype):
    tile.write("image", np.array([[[100, 1100, 50, 5000, 600, 104]]], dtype))
    image_HWC, missing_HW, _ = tile.image(image=info(100, 1100, bands=1))
    assert image_HWC[0, :, 0].tolist() == [0, 255, 0, 255, 128, 1]
    assert missing_HW is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_scale_and_offset_of_the_file_come_before_the_range_and_are_noted(tile, dtype):
    tile.write("image", np.array([[[0, 50, 100]], [[0, 50, 100]]], dtype), scales=(2, 1), offsets=(10, 0))
    image_HWC, _, codes = tile.image(image=info(0, 210, bands=2))
    assert image_HWC[0].tolist() == [[12, 0], [134, 61], [255, 121]]
    assert codes == ["scale-applied"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_scale_and_offset_of_dataset_yaml_replace_those_of_the_file(tile, dtype):
    tile.write("image", np.array([[[0, 50, 100]]], dtype), scales=(2,), offsets=(10,))
    image_HWC, _, codes = tile.image(image=info(0, 1, bands=1, scale=0.01, offset=0.0))
    assert (image_HWC[0, :, 0].tolist(), codes) == ([0, 128, 255], ["scale-applied"])
    image_HWC, _, codes = tile.image(image=info(0, 255, bands=1, scale=1.0, offset=0.0))
    assert (image_HWC[0, :, 0].tolist(), codes) == ([0, 50, 100], [])


def test_nan_in_a_band_is_no_image(tile):
    pixels_BHW = np.full((2, 2, 3), 0.5, np.float32)
    pixels_BHW[1, 0, 2] = np.nan
    pixels_BHW[0, 1, 1] = np.inf
    tile.write("image", pixels_BHW)
    image_HWC, missing_HW, codes = tile.image(image=info(0, 1, bands=2))
    assert np.argwhere(missing_HW).tolist() == [[0, 2], [1, 1]]
    assert (image_HWC[0, 2].tolist(), image_HWC[0, 0].tolist(), codes) == ([0, 0], [128, 128], ["image-missing"])


@pytest.mark.parametrize(
    ("nodata", "given", "missing"),
    [
        (0, None, [[0, 0]]),
        (None, None, []),
        (0, (), []),
        (0, (9,), [[0, 1], [1, 0]]),
        (None, (0, 9), [[0, 0], [0, 1], [1, 0]]),
        (None, (-1,), []),
        (None, (0.5,), []),
    ],
)
def test_nodata_in_all_bands_is_no_image_and_dataset_yaml_goes_before_the_file(tile, nodata, given, missing):
    pixels_BHW = np.full((3, 2, 2), 9, np.uint8)
    pixels_BHW[:, 0, 0] = 0
    pixels_BHW[0, 1, 1] = 0  # a dark red alone is an image
    tile.write("image", pixels_BHW, nodata=nodata)
    _, missing_HW, codes = tile.image(image=info(nodata=given))
    assert ([] if missing_HW is None else np.argwhere(missing_HW).tolist()) == missing
    assert codes == ["image-missing"] * bool(missing)


def test_a_nan_nodata_value_of_a_float_image_is_no_image(tile):
    pixels_BHW = np.full((3, 2, 2), 0.5, np.float32)
    pixels_BHW[:, 1, 0] = np.nan
    tile.write("image", pixels_BHW, nodata=np.nan)
    assert np.argwhere(tile.image(image=info(0, 1))[1]).tolist() == [[1, 0]]


def test_alpha_of_zero_is_no_image_and_alpha_is_no_band(tile):
    pixels_BHW = np.full((4, 2, 2), 200, np.uint8)
    pixels_BHW[3, 0, 1] = 0
    tile.write("image", pixels_BHW, photometric="rgb", alpha="yes")
    image_HWC, missing_HW, _ = tile.image(image=info())
    assert image_HWC.shape == (2, 2, 3)
    assert np.argwhere(missing_HW).tolist() == [[0, 1]]


def test_a_fourth_band_that_the_data_set_names_is_no_mask_however_the_file_marks_it(tile):
    pixels_BHW = np.full((4, 2, 2), 200, np.uint8)
    pixels_BHW[3, 0, 1] = 0
    tile.write("image", pixels_BHW, photometric="rgb", alpha="yes")
    image_HWC, missing_HW, _ = tile.image(image=info(bands=4))
    assert (image_HWC[0, 1, 3], missing_HW) == (0, None)


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
@pytest.mark.parametrize("high", [255, 100])
def test_a_mask_and_a_nodata_value_both_hide_pixels(tile, own_mask, high):
    pixels_BHW = BYTES.clip(1)
    pixels_BHW[:, 3, 4] = 0
    hidden_HW = np.zeros((20, 10), bool)
    hidden_HW[7, :5] = True
    tile.write("image", pixels_BHW, nodata=0, hidden_HW=hidden_HW, own_mask=own_mask)
    _, missing_HW, _ = tile.image(image=info(high=high))
    hidden_HW[3, 4] = True
    np.testing.assert_array_equal(missing_HW, hidden_HW)


def test_picked_bands_come_in_the_order_of_their_names(tile):
    tile.write("image", np.concatenate([BYTES, 255 - BYTES[:1]]), photometric="minisblack")
    image_HWC, _, _ = tile.image(image=info(band_numbers=(4, 2, 1)))
    np.testing.assert_array_equal(image_HWC, np.stack([255 - BYTES[0], BYTES[1], BYTES[0]], axis=-1))


def test_picked_bands_have_the_scale_and_the_nodata_value_of_their_own_band(tile):
    tile.write("image", np.array([[[0, 50, 100]], [[0, 50, 100]]], np.uint8), scales=(2, 1), offsets=(10, 0))
    image_HWC, _, codes = tile.image(image=info(0, 100, bands=1, band_numbers=(2,)))
    assert (image_HWC[0, :, 0].tolist(), codes) == ([0, 128, 255], [])


def test_a_palette_becomes_colours_and_its_transparent_entries_are_no_image(tile):
    palette = {0: (0, 0, 0, 0), 1: (10, 20, 30, 255), 2: (200, 100, 0, 255)}
    tile.write("image", np.array([[[0, 1, 2]]], np.uint8), palette=palette)
    image_HWC, missing_HW, _ = tile.image(image=info())
    assert image_HWC[0, 1:].tolist() == [[10, 20, 30], [200, 100, 0]]
    transparent = missing_HW is not None and missing_HW[0].tolist()
    assert transparent in (False, [True, False, False])  # a TIFF stores no transparency of its palette
    image_HWC, _, _ = tile.image(image=info(0, 100))
    assert image_HWC[0, 1:].tolist() == [[26, 51, 76], [255, 255, 0]]


def test_a_paletted_png_with_transparency_is_missing_there(tile):
    from PIL import Image

    picture = Image.new("P", (3, 1))
    picture.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 0])
    for column in range(3):
        picture.putpixel((column, 0), column)
    tile.path("image").unlink()
    tile.path = lambda kind: tile.folder / ("a.png" if kind == "image" else f"{kind}.tif")
    picture.save(tile.folder / "a.png", transparency=0)
    image_HWC, missing_HW, codes = tile.image(image=info())
    assert image_HWC[0, 1:].tolist() == [[10, 20, 30], [200, 100, 0]]
    assert (missing_HW.tolist(), codes) == ([[True, False, False]], ["image-missing"])


def test_a_colour_table_of_greys_is_applied_to_a_grey_image_and_another_one_is_refused(tile):
    pixels_BHW = np.array([[[0, 1, 2]]], np.uint8)
    tile.write("image", pixels_BHW, palette={n: (255 - n, 255 - n, 255 - n, 255) for n in range(256)})
    assert tile.image(image=info(bands=1))[0][0, :, 0].tolist() == [255, 254, 253]
    tile.write("image", pixels_BHW, palette={n: (n, 0, 0, 255) for n in range(256)})
    with pytest.raises(Rejected, match="has a colour table; name three bands in image.bands") as caught:
        tile.image(image=info(bands=1))
    assert caught.value.code == "band-count"
    assert tile.image(image=info(bands=1, band_numbers=(1,)))[0][0, :, 0].tolist() == [0, 1, 2]


def test_a_nodata_index_of_a_palette_is_an_image_if_dataset_yaml_says_so(tile):
    tile.write("image", np.array([[[0, 1]]], np.uint8), palette={0: (9, 9, 9, 255), 1: (1, 2, 3, 255)}, nodata=0)
    assert tile.image(image=info())[1].tolist() == [[True, False]]
    assert tile.image(image=info(nodata=()))[1] is None


def test_an_alpha_band_that_looks_like_no_mask_is_noted_and_can_be_turned_off(tile):
    pixels_BHW = np.full((4, 2, 4), 90, np.uint8)
    pixels_BHW[3, 0, :2] = 0
    tile.write("image", pixels_BHW, photometric="rgb", alpha="yes")
    assert tile.image(image=info())[2] == ["image-alpha", "image-missing"]
    assert tile.image(image=info(band_numbers=(1, 2, 3)))[2] == ["image-alpha", "image-missing"]
    assert tile.image(image=info(nodata=()))[1:] == (None, [])
    pixels_BHW[3, 0, 2:] = pixels_BHW[3, 1, 1:] = 255  # a mask with a soft edge
    tile.write("image", pixels_BHW, photometric="rgb", alpha="yes")
    assert tile.image(image=info())[2] == ["image-missing"]


def test_an_image_without_any_pixel_is_rejected_and_can_be_accepted(tile):
    tile.write("image", np.zeros((3, 60, 80), np.uint8), nodata=0)
    with pytest.raises(Rejected, match="every pixel is marked as missing; set image.nodata") as caught:
        tile.image()
    assert caught.value.code == "image-blank"
    assert tile.image(accept={"image-blank": ("a",)})[2] == ["image-blank"]


def test_missing_pixels_are_counted_once_over_all_rows(tile):
    pixels_BHW = BYTES.clip(1)
    pixels_BHW[:, 3:9, 4] = 0
    tile.write("image", pixels_BHW, nodata=0)
    layer = tile.reader(image=info()).layers["image"]
    for first in range(0, 20, 7):
        layer.rows(slice(first, min(first + 7, 20)))
    layer.finish()
    assert layer.notes[0].sentence.startswith("6 px (3 %) hold no image")
