from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("2_11_RGB", lambda image: image[:2], "band-count"),
        ("2_11_RGB", lambda image: image.astype(np.uint16), "pixel-type"),
        ("02_11", lambda dsm: dsm.astype(np.int16), "pixel-type"),
        ("02_11", lambda dsm: np.repeat(dsm, 3, axis=0), "band-count"),
        ("2_11_label.tif", lambda label: label[:1], "band-count"),
        ("2_11_label_noBoundary", lambda label: label.astype(np.float32), "pixel-type"),
    ],
)
def test_a_file_of_another_layout_is_an_error(package, rewritten, codes, name, change, code):
    folder = package()
    rewritten(folder, name, change)
    assert codes(folder) == {(code, "2_11")}


@pytest.mark.parametrize("content", [b"", b"not a picture", b"II*\x00" + b"\xff" * 60])
def test_a_file_that_is_none_is_an_error(package, codes, content):
    folder = package()
    next(folder.rglob("*02_11.tif")).write_bytes(content)
    assert codes(folder) == {("unreadable", "2_11")}


def test_the_sentence_of_a_missing_file_names_place_and_splits(package, checked):
    (one,) = [one for one in checked(package(missing=[("2_10", "eroded")])).findings if one.code == "file-missing"]
    assert "5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif" in one.sentence
    assert "official-minus-7_10, official, ssrs" in one.sentence


def test_other_tiles_are_checked_where_one_cannot_be_read(package, codes):
    folder = package(truncated=[("2_10", "image")], lossy=("2_12",))
    assert codes(folder) == {("unreadable", "2_10"), ("colours-snapped", "2_12")}
