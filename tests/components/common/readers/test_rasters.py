import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.windows import Window

from components.common.errors import DataError
from components.common.readers.rasters import Grid, open_raster, parse_crs, read_raster, same_crs

HERE = Affine(0.05, 0, 366000, 0, -0.05, 5807000)
RGB = np.random.default_rng(0).integers(1, 255, (3, 150, 130), dtype=np.uint8)
HEIGHTS = np.random.default_rng(1).uniform(30, 60, (1, 150, 130)).astype(np.float32)


def write(path, pixels_BHW, *, window=None, size=None, **profile):
    bands, height, width = size or pixels_BHW.shape
    with rasterio.open(
        path, "w", "GTiff", count=bands, height=height, width=width, dtype=pixels_BHW.dtype, **profile
    ) as file:
        file.write(pixels_BHW, window=window)
    return path


def read_rgb(path):
    return read_raster(path, bands=3, dtypes=("uint8",))


def read_dsm(path):
    return read_raster(path, bands=1, dtypes=("float32", "float64"))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_pixels_bands_and_place_come_back_exactly(tmp_path, interleave):
    raster = read_rgb(write(tmp_path / "a.tif", RGB, crs="EPSG:32633", transform=HERE, interleave=interleave))
    np.testing.assert_array_equal(raster.pixels_BHW, RGB)
    assert raster.pixels_BHW.dtype == np.uint8
    assert (raster.transform, raster.crs, raster.missing_HW) == (HERE, "EPSG:32633", None)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("suffix", [".tfw", ".TFW", ".tifw", ".wld"])
def test_a_world_file_gives_the_place_of_the_upper_left_corner(tmp_path, suffix):
    path = write(tmp_path / "a.tif", HEIGHTS)
    path.with_suffix(suffix).write_text("0.05\n0\n0\n-0.05\n366000.025\n5806999.975\n")
    raster = read_dsm(path)
    assert raster.crs is None
    assert raster.transform.almost_equals(HERE, precision=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_file_without_any_place_says_so_and_does_not_warn(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "a.tif", HEIGHTS)
    raster = read_dsm(path)
    assert (raster.transform, raster.crs) == (None, None)


@pytest.mark.parametrize("nodata", [-9999.0, float(np.finfo(np.float32).min), float("nan")])
def test_nodata_is_marked_as_missing(tmp_path, nodata):
    heights = HEIGHTS.copy()
    heights[0, 5:7, 3] = nodata
    missing_HW = read_dsm(write(tmp_path / "a.tif", heights, nodata=nodata, transform=HERE)).missing_HW
    assert np.argwhere(missing_HW).tolist() == [[5, 3], [6, 3]]


LAYOUTS = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "planes": {"interleave": "band"},
}


@pytest.mark.parametrize("cut", [1, 200, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "packbits"])
def test_a_truncated_file_is_an_error_wherever_it_is_cut(tmp_path, compress, layout, sparse, cut):
    path = write(tmp_path / "a.tif", RGB, compress=compress, transform=HERE, sparse_ok=sparse, **LAYOUTS[layout])
    size = path.stat().st_size
    os.truncate(path, size - (cut if cut >= 1 else int(cut * size)))
    with pytest.raises(DataError, match=r"a.tif: not a readable TIFF \(.*\); copy or download it again"):
        read_rgb(path)


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_blocks_that_were_never_written_are_an_error_not_zeros(tmp_path, compress, layout):
    half = {"window": Window(0, 0, 130, 64), "size": (3, 150, 130), "sparse_ok": True}
    path = write(tmp_path / "a.tif", RGB[:, :64], compress=compress, transform=HERE, **half, **LAYOUTS[layout])
    with rasterio.open(path) as file:
        assert not file.read()[:, 70:].any()  # what GDAL makes of them
    with pytest.raises(DataError, match="a.tif: some blocks were never written"):
        read_rgb(path)


def test_blocks_that_were_never_written_are_missing_where_nodata_says_so(tmp_path):
    path = write(
        tmp_path / "a.tif",
        HEIGHTS[:, :64],
        window=Window(0, 0, 130, 64),
        size=(1, 150, 130),
        nodata=-9999,
        sparse_ok=True,
        transform=HERE,
        **LAYOUTS["tiles"],
    )
    missing_HW = read_dsm(path).missing_HW
    assert (missing_HW[:64].any(), missing_HW[64:].all()) == (False, True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone.tif: no such file; run the acquire step again"):
        read_rgb(tmp_path / "gone.tif")


@pytest.mark.parametrize("content", ["text", "empty", "png", "folder"])
def test_what_is_no_tiff_is_an_error(tmp_path, content):
    path = tmp_path / "a.tif"
    if content == "folder":
        path.mkdir()
    elif content == "png":
        Image.fromarray(np.moveaxis(RGB, 0, -1)).save(path, format="PNG")
    else:
        path.write_text("not a picture" if content == "text" else "")
    with pytest.raises(DataError, match="a.tif: (not a readable TIFF|no such file)") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_bands_names_both(tmp_path):
    path = write(tmp_path / "a.tif", np.concatenate([RGB, RGB[:1]]), transform=HERE)
    with pytest.raises(DataError, match="a.tif: has 4 bands, expected 3"):
        read_rgb(path)


def test_a_wrong_pixel_type_names_both(tmp_path):
    with pytest.raises(DataError, match="a.tif: its pixels are uint16, expected uint8"):
        read_rgb(write(tmp_path / "a.tif", RGB.astype(np.uint16), transform=HERE))
    with pytest.raises(DataError, match="a.tif: its pixels are uint8, expected float32 or float64"):
        read_dsm(write(tmp_path / "a.tif", RGB[:1], transform=HERE))


def test_any_damaged_byte_of_the_header_is_at_worst_a_data_error(tmp_path):
    good = write(tmp_path / "a.tif", RGB, compress="deflate", crs="EPSG:32633", transform=HERE).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(0, 400, 2):
        damaged = bytearray(good)
        damaged[place] = rng.integers(0, 256)
        (tmp_path / "b.tif").write_bytes(damaged)
        try:
            read_rgb(tmp_path / "b.tif")
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_gdal_prints_nothing(tmp_path):
    path = write(tmp_path / "a.tif", RGB, compress="deflate", transform=HERE)
    os.truncate(path, path.stat().st_size // 2)
    code = (
        "import logging, sys, pathlib; logging.basicConfig(level=logging.INFO)\n"
        "from components.common.readers.rasters import read_raster\n"
        "try: read_raster(pathlib.Path(sys.argv[1]), bands=3, dtypes=('uint8',))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("DataError\n", "")


def test_reference_systems_are_compared_by_what_they_are_not_how_they_are_spelt():
    utm = parse_crs("EPSG:32633")
    assert same_crs(utm, parse_crs(utm.to_wkt()))
    assert same_crs(utm, parse_crs("+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs"))
    assert not same_crs(utm, parse_crs("EPSG:32632"))


def test_an_unknown_reference_system_is_an_error():
    with pytest.raises(DataError, match="'EPSG:1' is no coordinate reference system; write data.crs like EPSG:32633"):
        parse_crs("EPSG:1")


@pytest.mark.parametrize("compress", ["none", "lzw"])
def test_windows_are_cut_out_of_the_whole(tmp_path, compress):
    path = write(tmp_path / "a.tif", RGB, crs="EPSG:32633", transform=HERE, compress=compress, nodata=0)
    with open_raster(path, bands=3, dtypes=("uint8",)) as file:
        assert file.grid == Grid(150, 130, HERE, parse_crs("EPSG:32633"))
        assert (file.bands, file.dtype, file.nodata) == (3, "uint8", 0)
        np.testing.assert_array_equal(file.read(slice(10, 33)), RGB[:, 10:33])
        np.testing.assert_array_equal(file.read(slice(10, 33), slice(5, 6)), RGB[:, 10:33, 5:6])
        assert file.missing(slice(10, 33), slice(5, 6)).shape == (23, 1)
        image_hWC = np.zeros((7, 130, 3), np.uint8)
        file.read(slice(0, 7), out_BhW=np.moveaxis(image_hWC, -1, 0))
        np.testing.assert_array_equal(image_hWC, np.moveaxis(RGB[:, :7], 0, -1))


def test_a_pixel_is_missing_where_all_bands_are_nodata(tmp_path):
    pixels_BHW = RGB.copy()
    pixels_BHW[:, 3, 4] = 0
    pixels_BHW[1:, 5, 6] = 0
    raster = read_rgb(write(tmp_path / "a.tif", pixels_BHW, nodata=0, transform=HERE))
    assert np.argwhere(raster.missing_HW).tolist() == [[3, 4]]


@pytest.mark.parametrize(("name", "error_px"), [("a.png", 0), ("a.jpg", 40), ("A.JPEG", 40)])
def test_pictures_of_other_formats_are_read_with_their_world_files(tmp_path, name, error_px):
    smooth = np.clip(np.add.outer(np.arange(150), np.arange(130)), 0, 255).astype(np.uint8)
    path = tmp_path / name
    Image.fromarray(smooth).save(path, **({} if name.endswith("png") else {"quality": 95}))
    suffix = ".pgw" if name.endswith("png") else ".jgw"
    path.with_suffix(suffix).write_text("0.05\n0\n0\n-0.05\n366000.025\n5806999.975\n")
    raster = read_raster(path, bands=1, dtypes=("uint8",))
    assert np.abs(raster.pixels_BHW[0].astype(int) - smooth).max() <= error_px
    assert raster.transform.almost_equals(HERE, precision=1e-6)


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("a.jpg", "JPEG")])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.98])
def test_a_truncated_picture_is_an_error(tmp_path, name, format, keep):
    path = tmp_path / name
    Image.fromarray(np.moveaxis(RGB, 0, -1)).save(path)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(DataError, match=f"{name}: not a readable {format} "):
        read_rgb(path)


def test_a_file_is_opened_as_what_its_name_says_and_as_nothing_else(tmp_path):
    write(tmp_path / "b.tif", RGB, transform=HERE)
    vrt = '<VRTDataset rasterXSize="1" rasterYSize="1"/>'
    for name in ("a.png", "a.jpg", "a.tif"):
        (tmp_path / name).write_text(vrt)
        with pytest.raises(DataError, match=f"{name}: not a readable"):
            read_rgb(tmp_path / name)
    (tmp_path / "a.vrt").write_text(vrt)
    with pytest.raises(DataError, match=r"a.vrt: its name ends on '.vrt'; expected .tif, .tiff, .jpg"):
        read_rgb(tmp_path / "a.vrt")
