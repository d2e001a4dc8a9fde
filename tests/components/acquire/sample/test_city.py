from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from components.acquire.sample.city import MOST_TILES, TileJob, sample_tiles, write_city, write_tile
from components.acquire.sample.label_pictures import boundary, coloured
from components.acquire.sample.tile import make_scene
from components.common.data import datasets
from components.common.data.rawtree import read_raw_tree

POTSDAM = datasets.dataset("sample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_tile(TileJob(7, "2_10", 256, folder))
    return folder


@pytest.mark.parametrize(
    ("name", "bands", "dtype", "nodata"),
    [
        ("2_Ortho_RGB/top_potsdam_2_10_RGB.tif", 3, "uint8", None),
        ("1_DSM/dsm_potsdam_02_10.tif", 1, "float32", -9999.0),
        ("5_Labels_all/top_potsdam_2_10_label.tif", 3, "uint8", None),
        ("5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif", 3, "uint8", None),
    ],
)
def test_a_file_has_the_name_layout_and_georeference_of_potsdam(folder, name, bands, dtype, nodata) -> None:
    with rasterio.open(folder / name) as file:
        assert (file.count, set(file.dtypes), file.nodata) == (bands, {dtype}, nodata)
        assert file.crs.to_epsg() == 32633
        assert tuple(file.transform)[:6] == pytest.approx((0.05, 0, 366128.0, 0, -0.05, 5807974.4))
        assert (file.shape, file.block_shapes[0], file.compression.value) == ((256, 256), (256, 256), "DEFLATE")


def test_the_files_hold_the_scene(folder) -> None:
    scene = make_scene(7, "2_10", 256)
    layers = {}
    for kind in ("image", "dsm", "label", "eroded"):
        with rasterio.open(folder / POTSDAM.path(kind, "2_10")) as file:
            layers[kind] = np.moveaxis(file.read(), 0, -1)
    assert np.array_equal(layers["image"], scene.image_HW3)
    assert np.array_equal(layers["label"], coloured(scene.label_HW))
    assert np.array_equal((layers["eroded"] == 0).all(axis=2), boundary(scene.label_HW))
    missing = layers["dsm"][..., 0] == -9999.0
    assert np.array_equal(missing, np.isnan(scene.dsm_HW))
    assert np.array_equal(layers["dsm"][..., 0][~missing], scene.dsm_HW[~missing])


def test_a_city_has_every_tile_of_its_split_and_a_pool_makes_the_same_pixels(folder, tmp_path) -> None:
    tiles = datasets.split("sample", "sample").tiles
    tree = write_city(7, 256, tiles, tmp_path)
    assert tree == read_raw_tree(tmp_path) and set(tree.tiles) == set(tiles)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.tif")}
    assert written == {POTSDAM.path(kind, tile) for kind in ("image", "dsm", "label", "eroded") for tile in tiles}
    image = POTSDAM.path("image", "2_10")
    assert (tmp_path / image).read_bytes() == (folder / image).read_bytes()


def test_a_larger_sample_has_the_same_first_tiles() -> None:
    assert sample_tiles(10) == datasets.split("sample", "sample").tiles
    for count in (10, 11, 24, MOST_TILES):
        assert sample_tiles(count) == sample_tiles(MOST_TILES)[:count]
        assert len(set(sample_tiles(count))) == count
    large = datasets.split("sample", "sample-25")
    assert set(large.tiles) == set(sample_tiles(MOST_TILES))
    assert [len(large.train), len(large.val), len(large.test)] == [15, 5, 5]


def test_the_tiles_of_the_sample_are_in_the_same_subsets_of_the_larger_split() -> None:
    small, large = datasets.split("sample", "sample"), datasets.split("sample", "sample-25")
    assert {tile: small.subset_of(tile) for tile in small.tiles} == {t: large.subset_of(t) for t in small.tiles}
