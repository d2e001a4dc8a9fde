from __future__ import annotations

import numpy as np

FULL, ERODED = "top_potsdam_2_11_label.tif", "top_potsdam_2_11_label_noBoundary"


def one_colour(rgb):
    return lambda picture_BHW: np.broadcast_to(np.array(rgb, np.uint8)[:, None, None], picture_BHW.shape)


def test_a_label_without_a_class_is_an_error(package, rewritten, codes):
    folder = package()
    rewritten(folder, FULL, one_colour((0, 0, 0)))
    assert codes(folder) == {("label-blank", "2_11")}


def test_a_label_of_one_class_is_a_suspicion(package, rewritten, codes):
    folder = package()
    rewritten(folder, FULL, one_colour((0, 0, 255)))
    rewritten(folder, ERODED, one_colour((0, 0, 255)))
    assert codes(folder) == {("label-constant", "2_11")}


def test_full_and_eroded_label_are_told_apart(package, codes):
    folder = package()
    full, eroded = next(folder.rglob(FULL)), next(folder.rglob(f"{ERODED}.tif"))
    content = full.read_bytes()
    full.write_bytes(eroded.read_bytes())
    assert codes(folder) == {("label-eroded", "2_11")}
    full.write_bytes(content)
    eroded.write_bytes(content)
    assert codes(folder) == {("eroded-full", "2_11")}


def test_the_eroded_label_of_another_tile_is_an_error(package, codes):
    folder = package(georeference="none")
    next(folder.rglob(f"{ERODED}.tif")).write_bytes(next(folder.rglob("*2_12_label_noBoundary.tif")).read_bytes())
    assert codes(folder) == {("eroded-differs", "2_11"), ("duplicate", "2_12"), ("no-georeference", None)}


def test_a_little_disagreement_is_within_the_limit(package, rewritten, codes):
    def change(picture_BHW):
        others = np.flatnonzero(picture_BHW[:2].any(0))[:3]  # no building, and not ignored
        picture_BHW.reshape(3, -1)[:, others] = np.array([0, 0, 255], np.uint8)[:, None]
        return picture_BHW

    folder = package()
    rewritten(folder, ERODED, change)
    assert "eroded-differs" not in {code for code, _ in codes(folder)}
    assert ("eroded-differs", "2_11") in codes(folder, max_disagreement_share=0.0)


def test_unknown_colours_are_counted_and_one_is_shown(package, checked):
    (one,) = [one for one in checked(package(unknown_px={"2_11": 3})).findings if one.code == "colours-unknown"]
    assert "3 px" in one.sentence and "RGB 200, 10, 200 at row 0, column 0" in one.sentence


def test_labels_by_value_are_read_by_value(own_data, codes, rewritten):
    folder = own_data()
    assert codes(folder, dataset="mine") == set()
    rewritten(folder / "labels", "a.tif", lambda values_BHW: values_BHW + 40)
    assert codes(folder, dataset="mine") == {("label-unknown", "a")}


def test_many_unknown_colours_are_an_error_up_to_the_limit_of_preprocess(package, codes):
    folder = package(unknown_px={"2_11": 7})
    assert codes(folder) == {("label-unknown", "2_11")}
    assert codes(folder, max_unknown_share=0.01) == {("colours-unknown", "2_11")}
