from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from components.acquire.own_files import collect_own
from components.common.data import datasets
from components.common.data.layerinfo import LabelInfo
from components.common.data.rawtree import RECORD, read_raw_tree
from components.common.errors import DataError
from tests.isprs_package import raster

SAMPLE = datasets.dataset("sample")
PIXELS = raster(np.full((3, 8, 8), 9, np.uint8))


def own(image="images/{tile}.tif", dsm="dsm/{tile}.tif", label="labels/{tile}.png", eroded=None):
    return replace(
        SAMPLE, name="mine", image=replace(SAMPLE.image, files=image), dsm=replace(SAMPLE.dsm, files=dsm),
        label=LabelInfo(files=label), eroded=eroded,
    )  # fmt: skip


@pytest.fixture
def given(tmp_path):
    def given(*paths):
        for path in paths:
            target = tmp_path / "given" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            png = raster(np.full((3, 8, 8), 9, np.uint8), "PNG")
            target.write_bytes(png if path.endswith("png") else PIXELS)
        return tmp_path / "given"

    return given


def names(folder):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".")}


def test_files_come_to_the_same_paths_by_tile_and_nothing_else_comes(tmp_path, given) -> None:
    source = given("images/b.tif", "images/a.tif", "dsm/a.tif", "labels/a.png", "labels/c.png", "notes/a.tif")
    (source / "readme.txt").write_text("hello")
    tree = collect_own(source, own(), tmp_path / "raw")
    assert tree == read_raw_tree(tmp_path / "raw")
    assert tree.source == "folder" and list(tree.tiles) == ["a", "b"]
    assert tree.tiles["a"] == {"image": "images/a.tif", "dsm": "dsm/a.tif", "label": "labels/a.png"}
    assert tree.tiles["b"] == {"image": "images/b.tif"}
    assert names(tmp_path / "raw") == {"images/a.tif", "images/b.tif", "dsm/a.tif", "labels/a.png", RECORD}
    assert tree.file("a", "image").samefile(source / "images/a.tif")


def test_a_mosaic_serves_all_tiles(tmp_path, given) -> None:
    source = given("images/10.tif", "images/9.tif", "heights.tif", "labels/9.png")
    tree = collect_own(source, own(dsm="heights.tif"), tmp_path / "raw")
    assert list(tree.tiles) == ["9", "10"]
    assert tree.file("9", "dsm") == tree.file("10", "dsm") == tmp_path / "raw" / "heights.tif"


def test_several_fields_are_numbers_in_any_width(tmp_path, given) -> None:
    source = given("i_2_10.tif", "d_02_10.tif", "l_2_10.png")
    tree = collect_own(source, own("i_{r}_{c}.tif", "d_{r:02}_{c:02}.tif", "l_{r}_{c}.png"), tmp_path / "raw")
    assert tree.tiles == {"2_10": {"image": "i_2_10.tif", "dsm": "d_02_10.tif", "label": "l_2_10.png"}}


def test_a_file_that_fits_two_patterns_belongs_to_the_one_that_says_more(tmp_path, given) -> None:
    source = given("a.tif", "a_dsm.tif", "a_label.png")
    tree = collect_own(source, own("{tile}.tif", "{tile}_dsm.tif", "{tile}_label.png"), tmp_path / "raw")
    assert tree.tiles == {"a": {"image": "a.tif", "dsm": "a_dsm.tif", "label": "a_label.png"}}


def test_world_files_and_the_like_go_with_their_raster(tmp_path, given) -> None:
    source = given("images/a.tif", "dsm/a.tif", "labels/a.png")
    beside = ("images/a.tfw", "dsm/a.prj", "labels/a.pgw", "labels/a.png.aux.xml")
    for path in (*beside, "images/b.tfw", "images/a.txt"):
        (source / path).write_text("1")
    collect_own(source, own(), tmp_path / "raw")
    assert names(tmp_path / "raw") == {*beside, "images/a.tif", "dsm/a.tif", "labels/a.png", RECORD}


def test_what_the_folder_has_no_more_goes(tmp_path, given) -> None:
    source = given("images/a.tif", "images/b.tif", "dsm/a.tif", "labels/a.png")
    collect_own(source, own(), tmp_path / "raw")
    (source / "images/b.tif").unlink()
    (source / "images/a.tif").unlink()
    (source / "images/a.tif").write_bytes(raster(np.zeros((3, 8, 8), np.uint8)))
    tree = collect_own(source, own(), tmp_path / "raw")
    assert list(tree.tiles) == ["a"] and "images/b.tif" not in names(tmp_path / "raw")
    assert tree.file("a", "image").read_bytes() == (source / "images/a.tif").read_bytes()


def test_heights_with_a_label_are_a_tile_without_an_image(tmp_path, given) -> None:
    source = given("images/a.tif", "dsm/a.tif", "dsm/b.tif", "dsm/c.tif", "labels/a.png", "labels/b.png")
    tree = collect_own(source, own(), tmp_path / "raw")
    assert list(tree.tiles) == ["a", "b"]
    assert tree.tiles["b"] == {"dsm": "dsm/b.tif", "label": "labels/b.png"}
    assert (tree.sensors("a"), tree.sensors("b")) == (("rgb", "dsm"), ("dsm",))
    assert "unreadable" not in (tmp_path / "raw" / RECORD).read_text()


def test_with_one_label_for_all_every_dsm_is_a_tile(tmp_path, given) -> None:
    source = given("images/a.tif", "dsm/a.tif", "dsm/b.tif", "labels.png")
    assert list(collect_own(source, own(label="labels.png"), tmp_path / "raw").tiles) == ["a", "b"]


def test_a_damaged_file_is_named_and_left_out(tmp_path, given, caplog) -> None:
    source = given("images/a.tif", "dsm/a.tif", "labels/a.png")
    (source / "dsm/a.tif").write_bytes(PIXELS[:-50])
    tree = collect_own(source, own(), tmp_path / "raw")
    assert tree.tiles["a"].keys() == {"image", "label"} and tree.unreadable == {"a": ("dsm",)}
    assert read_raw_tree(tmp_path / "raw") == tree
    assert "left out: given/dsm/a.tif: not a readable TIFF" in caplog.text
    assert (source / "dsm/a.tif").read_bytes() == PIXELS[:-50]


@pytest.mark.parametrize(
    ("paths", "patterns", "sentence"),
    [
        (["x/a.tif", "x/b.tif"], {}, r"fits the image pattern 'images/\{tile\}\.tif'; the folder has x/a\.tif, x/b"),
        ([], {}, "the folder has nothing"),
        (["images/a.tif", "dsm/a.tif"], {}, r"no file fits the label pattern 'labels/\{tile\}\.png'"),
        (["x/a.tif", "y/a.tif"], {"image": "?/{tile}.tif"}, r"x/a\.tif and y/a\.tif are both the image of tile a"),
        (["d1.tif", "d2.tif"], {"dsm": "d?.tif"}, r"d1\.tif and d2\.tif are both the dsm for all tiles"),
        (["images/a.tif"], {"label": "images/{tile}.tif"}, "image and label have the same pattern"),
        (["images/a.tif"], {"image": "images/*.tif"}, r"has no field; write \{tile\}"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_one_sentence(tmp_path, given, paths, patterns, sentence) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(DataError, match=sentence):
        collect_own(given(*paths), own(**patterns), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_no_folder_is_one_sentence(tmp_path) -> None:
    with pytest.raises(DataError, match="no such folder; set data.path"):
        collect_own(tmp_path / "none", own(), tmp_path / "raw")
