import numpy as np
import pytest

from components.common.data.datasets import ImageInfo
from components.common.readers.rasters import open_raster
from components.preprocess.image import DTYPES, image_rows
from tests.components.preprocess.conftest import write_tiff


def info(low=0.0, high=255.0, bands=3):
    return ImageInfo(files="x", bands=("b",) * bands, range=(low, high), mean=(0.5,) * bands, std=(0.2,) * bands)


def rows_of(path, info, rows=None):
    with open_raster(path, bands=len(info.bands), dtypes=DTYPES, alpha=True) as file:
        return image_rows(file, info, rows or slice(0, file.grid.height_px))


def test_eight_bits_are_taken_as_they_are(tmp_path):
    pixels_BHW = np.random.default_rng(0).integers(0, 256, (3, 20, 10), dtype=np.uint8)
    write_tiff(tmp_path / "a.tif", pixels_BHW)
    image_HWC, missing_HW = rows_of(tmp_path / "a.tif", info(high=100), slice(5, 9))
    np.testing.assert_array_equal(image_HWC, np.moveaxis(pixels_BHW[:, 5:9], 0, -1))
    assert missing_HW is None


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_the_range_becomes_0_to_255_and_what_lies_beyond_is_cut(tmp_path, dtype):
    write_tiff(tmp_path / "a.tif", np.array([[[100, 1100, 50, 5000, 600, 104]]], dtype))
    image_HWC, missing_HW = rows_of(tmp_path / "a.tif", info(100, 1100, bands=1))
    assert image_HWC[0, :, 0].tolist() == [0, 255, 0, 255, 128, 1]
    assert missing_HW is None


def test_nan_in_a_band_is_no_image(tmp_path):
    pixels_BHW = np.full((2, 2, 3), 0.5, np.float32)
    pixels_BHW[1, 0, 2] = np.nan
    write_tiff(tmp_path / "a.tif", pixels_BHW)
    image_HWC, missing_HW = rows_of(tmp_path / "a.tif", info(0, 1, bands=2))
    assert np.argwhere(missing_HW).tolist() == [[0, 2]]
    assert image_HWC[0, 2].tolist() == [0, 0]


def test_nodata_in_all_bands_is_no_image(tmp_path):
    pixels_BHW = np.full((3, 2, 2), 9, np.uint8)
    pixels_BHW[:, 0, 0] = 0
    pixels_BHW[0, 1, 1] = 0  # a dark red alone is an image
    write_tiff(tmp_path / "a.tif", pixels_BHW, nodata=0)
    assert np.argwhere(rows_of(tmp_path / "a.tif", info())[1]).tolist() == [[0, 0]]


def test_alpha_of_zero_is_no_image_and_alpha_is_no_band(tmp_path):
    pixels_BHW = np.full((4, 2, 2), 200, np.uint8)
    pixels_BHW[3, 0, 1] = 0
    write_tiff(tmp_path / "a.tif", pixels_BHW, photometric="rgb", alpha="yes")
    image_HWC, missing_HW = rows_of(tmp_path / "a.tif", info())
    assert image_HWC.shape == (2, 2, 3)
    assert np.argwhere(missing_HW).tolist() == [[0, 1]]


def test_a_fourth_band_that_the_data_set_names_is_no_mask_however_the_file_marks_it(tmp_path):
    pixels_BHW = np.full((4, 2, 2), 200, np.uint8)
    pixels_BHW[3, 0, 1] = 0
    write_tiff(tmp_path / "a.tif", pixels_BHW, photometric="rgb", alpha="yes")
    image_HWC, missing_HW = rows_of(tmp_path / "a.tif", info(bands=4))
    assert (image_HWC[0, 1, 3], missing_HW) == (0, None)
