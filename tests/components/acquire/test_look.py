from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from components.acquire.archives import Damaged
from components.acquire.look import Look, look
from tests.isprs_package import NODATA, raster, scene

HERE = Affine(0.05, 0, 1000, 0, -0.05, 2000)


def put(tmp_path, content: bytes):
    path = tmp_path / "x.part"
    path.write_bytes(content)
    return path


def test_pixels_without_a_measurement_do_not_count(tmp_path) -> None:
    heights = scene("potsdam", "2_10", 64)["absolute"]
    heights[:, 0, :3] = np.nan
    heights[:, 1, :2] = NODATA
    heights[:, 2, :5] = 1e30
    assert look(put(tmp_path, raster(heights)), ".tif", "x").measured_px == 64 * 64 - 10
    marked = raster(np.full((1, 8, 8), 7, np.uint8), nodata=7)
    assert look(put(tmp_path, marked), ".tif", "x").measured_px == 0


def test_blocks_that_were_never_written_do_not_count(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = {"width": 64, "height": 64, "count": 1, "dtype": "uint8", "tiled": True, "blockxsize": 16}
        with rasterio.open(tmp_path / "x", "w", "GTiff", blockysize=16, SPARSE_OK=True, **profile) as file:
            file.write(np.ones((1, 16, 64), np.uint8), window=rasterio.windows.Window(0, 0, 64, 16))
    assert look(tmp_path / "x", ".tif", "x").measured_px == 16 * 64


def test_a_georeference_is_seen(tmp_path) -> None:
    pixels = scene("potsdam", "2_10", 16)["rgb"]
    assert look(put(tmp_path, raster(pixels, transform=HERE)), ".tif", "x").placed
    assert not look(put(tmp_path, raster(pixels)), ".tif", "x").placed


@pytest.mark.parametrize("dataset", ["potsdam", "vaihingen"])
def test_labels_and_images_differ_in_their_colours(tmp_path, dataset) -> None:
    layers = scene(dataset, "1", 64)
    for name, low, high in (("label", 1, 1), ("eroded", 1, 1), ("irrg", 0, 0.3)):
        assert low <= look(put(tmp_path, raster(layers[name])), ".tif", name).label_share <= high
    assert math.isnan(look(put(tmp_path, raster(layers["absolute"])), ".tif", "x").label_share)
    assert math.isnan(look(put(tmp_path, raster(np.zeros((3, 8, 8), np.uint8))), ".tif", "x").label_share)


@pytest.mark.parametrize("profile", [{}, {"compress": "lzw"}, {"interleave": "band"}, {"tiled": True}])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_a_cut_tiff_is_damaged(tmp_path, profile, kept) -> None:
    content = raster(np.random.default_rng(0).integers(0, 255, (3, 256, 256), np.uint8), **profile)
    with pytest.raises(Damaged, match=r"^a\.tif: not a readable (TIFF|JPEG) .*again$"):
        look(put(tmp_path, content[: int(len(content) * kept)]), ".tif", "a.tif")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_cut_jpeg_is_damaged(tmp_path, kept) -> None:
    content = raster(np.random.default_rng(0).integers(0, 255, (1, 256, 256), np.uint8), "JPEG")
    assert look(put(tmp_path, content), ".jpg", "x").measured_px == 256 * 256
    with pytest.raises(Damaged):
        look(put(tmp_path, content[: int(len(content) * kept)]), ".jpg", "x")


@pytest.mark.parametrize(("suffix", "content"), [(".tif", b""), (".tif", b"II*\0rubbish"), (".jpg", b"<VRTDataset/>")])
def test_what_is_no_raster_of_its_format_is_damaged(tmp_path, suffix, content) -> None:
    with pytest.raises(Damaged, match="not a readable (TIFF|JPEG)"):
        look(put(tmp_path, content), suffix, "x")


def test_a_tiff_under_the_name_of_a_jpeg_is_damaged_and_an_unknown_format_named(tmp_path) -> None:
    path = put(tmp_path, raster(np.zeros((1, 8, 8), np.uint8)))
    with pytest.raises(Damaged):
        look(path, ".jpg", "x")
    sentence = r"^x\.ecw: \.ecw files are not supported; convert it with gdal_translate to \.tif \(supported: \.tif, "
    with pytest.raises(Damaged, match=sentence):
        look(path, ".ecw", "x.ecw")


def sparse(path, side: int, bands: int = 1) -> None:
    """A TIFF that stores no block at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = {"width": side, "height": side, "count": bands, "dtype": "uint8", "SPARSE_OK": True, "tiled": True}
        rasterio.open(path, "w", "GTiff", **profile).close()


def test_a_constant_tiff_may_be_thousands_of_times_smaller_than_its_pixels(tmp_path) -> None:
    pixels = np.ones((1, 4096, 4096), np.uint8)
    content = raster(pixels, compress="zstd", tiled=True, blockxsize=512, blockysize=512)
    assert len(content) * 2000 < pixels.size
    assert look(put(tmp_path, content), ".tif", "x").measured_px == pixels.size
    sparse(tmp_path / "f.part", 24_000, 3)
    assert (tmp_path / "f.part").stat().st_size * 2000 < 24_000 * 24_000 * 3
    assert look(tmp_path / "f.part", ".tif", "x").measured_px == 0


def test_a_size_that_no_such_file_can_have_is_damaged(tmp_path) -> None:
    sparse(tmp_path / "f.part", 200_000)
    with pytest.raises(Damaged, match="claims 200000 x 200000 pixels"):
        look(tmp_path / "f.part", ".tif", "x")
    with pytest.raises(Damaged, match="claims"):
        look(tmp_path / "f.part", ".tif", "x", 200_000 * 200_000 // 2001)


def test_complex_integers_are_read_so_that_the_check_can_name_their_type(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "x", "w", "GTiff", width=8, height=8, count=1, dtype="complex_int16"):
            pass
    assert look(tmp_path / "x", ".tif", "x").measured_px == 64


def test_the_better_file_has_more_measured_pixels_then_a_georeference() -> None:
    nan = float("nan")
    looks = [Look(10, True, nan), Look(11, False, nan), Look(11, True, nan)]
    assert sorted(looks, key=lambda one: one.rank) == looks
