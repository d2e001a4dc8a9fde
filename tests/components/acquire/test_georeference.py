from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

from components.acquire.archives import Damaged, on_disk
from components.acquire.georeference import Lack, World, lack_of, nearest, read_world, supply
from tests.isprs_package import place, raster, world_file

HERE = place("vaihingen", "3", 64)
PIXELS = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)


def world(tmp_path, content: bytes) -> World:
    (tmp_path / "x.tfw").write_bytes(content)
    return read_world(on_disk(tmp_path / "x.tfw", "x.tfw"))


def test_a_world_file_names_the_middle_of_the_first_pixel(tmp_path) -> None:
    assert world(tmp_path, world_file(HERE)).transform.almost_equals(HERE)
    turned = Affine(0.1, 0.02, 5, 0.03, -0.1, 7)
    assert world(tmp_path, world_file(turned).replace(b".", b",")).transform.almost_equals(turned)


@pytest.mark.parametrize(
    "content", [b"", b"1\n2\n3", b"a\nb\nc\nd\ne\nf", b"0\n0\n0\n0\n1\n1", b"nan\n" * 6, b"1\n" * 9999]
)
def test_what_is_no_world_file_is_said(tmp_path, content) -> None:
    with pytest.raises(Damaged, match=r"^x\.tfw: .*six numbers"):
        world(tmp_path, content)


def test_of_several_world_files_the_one_that_lies_nearest_is_taken(tmp_path) -> None:
    (tmp_path / "x").write_bytes(world_file(HERE))
    worlds = [read_world(on_disk(tmp_path / "x", name)) for name in ("w/x.tfw", "p/top/x.tfw", "p/gts/x.tfw")]
    assert nearest(worlds, "p/gts/x.tif") is worlds[2]
    assert nearest(worlds[:1], "p/gts/x.tif") is worlds[0]
    assert nearest([], "x.tif") is None


@pytest.mark.parametrize("form", [{}, {"ENDIANNESS": "BIG"}, {"BIGTIFF": "YES"}, {"tiled": True, "compress": "lzw"}])
@pytest.mark.parametrize(
    ("profile", "lack"),
    [
        ({}, Lack(HERE, "EPSG:32632")),
        ({"transform": HERE}, Lack(None, "EPSG:32632")),
        ({"transform": Affine(1, 0, 0, 0, -1, 9), "crs": "EPSG:32633"}, Lack(None, None)),
        ({"crs": "EPSG:32633"}, Lack(HERE, None)),
    ],
)
def test_a_tiff_gets_what_it_lacks_and_keeps_what_it_has(tmp_path, profile, lack, form) -> None:
    path, found = tmp_path / "x.part", world(tmp_path, world_file(HERE))
    path.write_bytes(raster(PIXELS, **profile, **form))
    needs = lack_of(path, found.transform, "EPSG:32632")
    assert (needs.transform is None, needs.crs) == (lack.transform is None, lack.crs)
    supply(path, needs, "x")
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), PIXELS)
        assert file.transform.almost_equals(profile.get("transform", HERE))
        assert file.crs == CRS.from_user_input(profile.get("crs", "EPSG:32632"))
    assert not lack_of(path, found.transform, "EPSG:32632")


def test_a_reference_system_is_not_given_to_a_file_without_a_place(tmp_path) -> None:
    (tmp_path / "x").write_bytes(raster(PIXELS))
    assert not lack_of(tmp_path / "x", None, "EPSG:32632")


def test_nothing_but_the_georeference_of_a_file_changes(tmp_path) -> None:
    path = tmp_path / "x.part"
    path.write_bytes(raster(PIXELS[:1], nodata=7, compress="deflate", predictor=2))
    with rasterio.open(path, "r+") as file:
        file.update_tags(note="kept")
        file.build_overviews([2])
    supply(path, Lack(Affine(0.1, 0.02, 5, 0.03, -0.1, 7), "EPSG:4326"), "x")
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), PIXELS[:1])
        assert (file.nodata, file.overviews(1), file.tags()["note"]) == (7, [2], "kept")
        assert file.transform.almost_equals(Affine(0.1, 0.02, 5, 0.03, -0.1, 7)) and file.crs.to_epsg() == 4326


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\xff\xff\xff\0", b"MM\0*\0\0\0\x08\xff\xff"])
def test_a_file_that_makes_no_sense_is_damaged(tmp_path, content) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Damaged, match="its georeference cannot be written"):
        supply(tmp_path / "x", Lack(HERE, "EPSG:32632"), "x")


def test_a_reference_system_without_a_code_is_said(tmp_path) -> None:
    (tmp_path / "x").write_bytes(raster(PIXELS))
    with pytest.raises(Damaged, match="has no code that a TIFF can hold"):
        supply(tmp_path / "x", Lack(HERE, "+proj=utm +zone=32 +ellps=bessel"), "x")
