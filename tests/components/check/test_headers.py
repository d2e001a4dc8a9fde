from __future__ import annotations

import struct

import pytest

from components.check.headers import read_header
from components.common.errors import DataError


def set_tag(path, tag, value):
    """Change one number in the directory of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        found, _, _, _ = struct.unpack_from("<HHII", content, place)
        if found == tag:
            struct.pack_into("<HHII", content, place, tag, 4, 1, value)
    path.write_bytes(content)


def test_the_header_of_a_tiff_is_read(package):
    folder = package()
    place = next(folder.rglob("*_2_10_RGB.tif")).relative_to(folder).as_posix()
    facts = read_header(folder, place)
    assert (facts.width_px, facts.height_px, facts.bands, facts.dtype, facts.crs) == (64, 64, 3, "uint8", "EPSG:32633")
    assert facts.resolution == pytest.approx((0.05, 0.05))


@pytest.mark.parametrize(("width", "height"), [(2_000_000_000, 64), (64, 2_000_000_000), (150_000, 150_000)])
def test_a_size_that_the_file_cannot_hold_is_refused_at_once(package, width, height):
    folder = package()
    path = next(folder.rglob("*_2_10_RGB.tif"))
    set_tag(path, 256, width)
    set_tag(path, 257, height)
    with pytest.raises(DataError) as caught:
        read_header(folder, path.relative_to(folder).as_posix())
    assert "\n" not in str(caught.value)


def test_a_name_that_says_no_format_is_refused(tmp_path):
    (tmp_path / "a.vrt").write_text("<VRTDataset/>")
    with pytest.raises(DataError, match="'.vrt'"):
        read_header(tmp_path, "a.vrt")
