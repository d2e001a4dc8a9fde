from __future__ import annotations

import shutil

import pytest

from components.check.sources import open_source
from components.common.errors import DataError


def test_data_set_and_variants_are_told_by_the_names(package):
    tree = open_source(package(layers=("irrg", "lastools", "label", "eroded")), None).tree
    assert tree.dataset.name == "potsdam"
    assert tree.dataset.image.bands[0] == "near infrared"
    assert tree.dataset.dsm.unit_m == 0.1
    assert set(tree.tiles["2_10"]) == {"image", "dsm", "label", "eroded"}


def test_an_image_without_a_word_above_it_is_not_guessed(package, codes):
    folder = package("vaihingen", ("1", "2"))
    image = next(folder.rglob("top/top_mosaic_09cm_area1.tif"))
    shutil.move(image, folder / image.name)
    found = codes(folder)
    assert ("unplaced", None) in found and ("unpaired", None) in found


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: folder.rmdir(), "no such folder"),
        (lambda folder: (folder / "readme.txt").write_text("hello"), "holds no file of"),
        (lambda folder: (folder / "Potsdam.zip").write_bytes(b""), "mobanet data import"),
        (lambda folder: (folder / "dataset.json").write_text("{}"), "damaged"),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path, prepare, words):
    folder = tmp_path / "raw"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(DataError, match=words):
        open_source(folder, None)


def test_the_generated_city_is_never_guessed_and_may_be_named(package):
    folder = package(tiles=("2_10",))
    assert open_source(folder, None).tree.dataset.name == "potsdam"
    assert open_source(folder, "sample").tree.dataset.name == "sample"
