from __future__ import annotations

import logging

import pytest

from components.common.data import datasets
from components.common.data.datasets import KINDS
from components.common.data.rawtree import RawTree, write_raw_tree
from components.common.errors import DataError, ParamsError
from components.predict.tile_request import request_for

POTSDAM = datasets.dataset("sample")
SPLIT = datasets.split("sample", "sample")


@pytest.fixture
def request_of(tmp_path):
    """The request for the test tiles, 5_10 and 5_11, of raw tiles of which some files are missing."""

    def make(*missing, tiles=None):
        files = {
            tile: {kind: POTSDAM.path(kind, tile) for kind in KINDS if (tile, kind) not in missing}
            for tile in SPLIT.tiles
        }
        write_raw_tree(RawTree(tmp_path, "sample", POTSDAM, files))
        return request_for(tmp_path, "sample", tiles, tmp_path / "package", tmp_path / "maps")

    return make


def names(files):
    return [file.rpartition("/")[2] for file in files]


def test_both_sensors_of_all_test_tiles_are_asked_for(request_of, caplog):
    found = request_of()
    assert names(found.image) == ["top_potsdam_5_10_RGB.tif", "top_potsdam_5_11_RGB.tif"]
    assert names(found.dsm) == ["dsm_potsdam_05_10.tif", "dsm_potsdam_05_11.tif"]
    assert not caplog.records


def test_a_tile_without_a_dsm_is_mapped_from_its_image(request_of):
    found = request_of(("5_11", "dsm"))
    assert names(found.image) == ["top_potsdam_5_10_RGB.tif", "top_potsdam_5_11_RGB.tif"]
    assert names(found.dsm) == ["dsm_potsdam_05_10.tif"]


def test_without_any_dsm_or_any_image_the_map_needs_the_other_one_alone(request_of, caplog):
    assert request_of(("5_10", "dsm"), ("5_11", "dsm")).dsm == ()
    assert request_of(("5_10", "image"), ("5_11", "image")).image == ()
    assert not caplog.records


def test_a_tile_without_an_image_may_lie_outside_the_map_and_the_log_says_so(request_of, caplog):
    with caplog.at_level(logging.WARNING):
        found = request_of(("5_11", "image"))
    assert (names(found.image), names(found.dsm)[1]) == (["top_potsdam_5_10_RGB.tif"], "dsm_potsdam_05_11.tif")
    assert "mapped only within the rectangle of the other images: 5_11 (no image)" in caplog.text


def test_a_tile_with_nothing_to_map_or_an_unknown_one_is_one_sentence(request_of):
    with pytest.raises(DataError, match="the tile 5_11 has neither an image nor a DSM; run the acquire step again"):
        request_of(("5_11", "image"), ("5_11", "dsm"))
    with pytest.raises(ParamsError, match="predict.tiles: .* has no tile 9_9"):
        request_of(tiles=("9_9",))
