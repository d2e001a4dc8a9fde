from __future__ import annotations

import numpy as np
import pytest
import rasterio

from components.acquire.tiff_tags import DOUBLE, SHORT, add_tags, read_shorts
from tests.isprs_package import place, raster

GEO_KEYS, PIXEL_SCALE, COPYRIGHT = 34735, 33550, 33432
PIXELS = np.arange(2 * 16 * 16, dtype=np.uint8).reshape(2, 16, 16)


@pytest.fixture(params=[{}, {"ENDIANNESS": "BIG"}, {"BIGTIFF": "YES"}, {"BIGTIFF": "YES", "ENDIANNESS": "BIG"}])
def tiff(request, tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(raster(PIXELS, transform=place("potsdam", "2_10", 16), crs="EPSG:32633", **request.param))
    return path


def test_short_tags_are_read_in_any_order_of_bytes(tiff) -> None:
    keys = read_shorts(tiff, GEO_KEYS)
    assert keys[:3] == (1, 1, 0) and 32633 in keys
    assert read_shorts(tiff, 258) == (8, 8)  # bits of each band
    assert read_shorts(tiff, COPYRIGHT) == ()


def test_a_tag_is_added_replaced_and_removed_and_the_pixels_stay(tiff) -> None:
    before = tiff.read_bytes()
    add_tags(tiff, {65000: (SHORT, (1, 2)), 65001: (DOUBLE, (0.5, 1.5, 2.5)), 65002: (SHORT, range(9))}, (PIXEL_SCALE,))
    add_tags(tiff, {65000: (SHORT, (3,))})
    assert (read_shorts(tiff, 65000), read_shorts(tiff, 65002)) == ((3,), tuple(range(9)))
    after = tiff.read_bytes()
    assert after[16 : len(before)] == before[16:]
    assert np.array([0.5, 1.5, 2.5], "<f8").tobytes() in after or np.array([0.5, 1.5, 2.5], ">f8").tobytes() in after
    with rasterio.open(tiff) as file:
        assert np.array_equal(file.read(), PIXELS)
        assert file.transform.a == 1.0  # its pixel scale is gone


def test_a_longer_list_than_makes_sense_is_an_error(tiff) -> None:
    add_tags(tiff, {65000: (SHORT, [7] * 600)})
    with pytest.raises(ValueError, match="no short list"):
        read_shorts(tiff, 65000)
    with pytest.raises(ValueError, match="no short list"):
        read_shorts(tiff, 33922)  # numbers of another type


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\3\4", b"II*\0", b"II*\0\x08\0\0\0\0\0", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08\0\0\0\1\0\0\0"],
)
def test_what_is_no_tiff_is_an_error_and_stays_as_it_is(tmp_path, content) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="directory"):
        add_tags(path, {65000: (SHORT, (1,))})
    assert path.read_bytes() == content
