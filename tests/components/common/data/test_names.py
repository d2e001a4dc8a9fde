from __future__ import annotations

import pytest

from components.common.data import datasets
from components.common.data.names import Names, hinted, nfc, stem_key

POTSDAM, VAIHINGEN = Names(datasets.dataset("potsdam")), Names(datasets.dataset("vaihingen"))


@pytest.mark.parametrize(
    ("found", "tile", "kind", "path"),
    [
        ("top_potsdam_2_10_RGB.tif", "2_10", "image", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("my stuff/TOP_POTSDAM_2_10_rgb.TIFF", "2_10", "image", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("a.zip/b.zip/top_potsdam_02_10_RGB.tif", "2_10", "image", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("dsm_potsdam_02_10.tif", "2_10", "dsm", "1_DSM/dsm_potsdam_02_10.tif"),
        ("dsm_potsdam_2_10.tif", "2_10", "dsm", "1_DSM/dsm_potsdam_02_10.tif"),
        ("labels/dsm_potsdam_2_9.tif", None, None, None),
        ("images/top_potsdam_7_7_label.tif", "7_7", "label", "5_Labels_all/top_potsdam_7_7_label.tif"),
        ("x/top_potsdam_2_10_RGBIR.tif", None, None, None),
        ("top_potsdam_9_99_RGB.tif", None, None, None),
        ("top_potsdam_2_10_RGB.tif.aux.xml", None, None, None),
        ("__MACOSX/._top_potsdam_2_10_RGB.tif", None, None, None),
        ("dsm_potsdam_02_10_normalized_lastools.jpg", None, None, None),
        ("readme.txt", None, None, None),
    ],
)
def test_a_file_is_known_by_its_name(found: str, tile: str | None, kind: str | None, path: str | None) -> None:
    place = POTSDAM.place(found)
    assert (place and (place.tile, place.kind, place.path)) == (tile and (tile, kind, path))


def test_another_variant_has_other_names() -> None:
    names = Names(datasets.dataset("potsdam", "rgbir", "lastools"))
    assert names.place("top_potsdam_2_10_RGB.tif") is None
    assert names.place("TOP_POTSDAM_2_10_RGBIR.tif").path == "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif"
    heights = names.place("dsm_potsdam_2_10_normalized_lastools.JPEG")
    assert heights.path == "1_DSM_normalisation/dsm_potsdam_02_10_normalized_lastools.jpg"


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ("top/top_mosaic_09cm_area1.tif", "image"),
        ("ISPRS_semantic_labeling_Vaihingen.zip/top/top_mosaic_09cm_area1.tif", "image"),
        ("labels.zip/images/top_mosaic_09cm_area1.tif", "image"),
        ("v.zip/gts_for_participants/top_mosaic_09cm_area1.tif", "label"),
        ("V_ground_truth_COMPLETE.zip/top_mosaic_09cm_area1.tif", "label"),
        ("top_mosaic_09cm_area38_noBoundary.tif", "eroded"),
        ("dsm/dsm_09cm_matching_area11.tif", "dsm"),
    ],
)  # fmt: skip
def test_an_image_and_its_label_of_one_name_are_told_apart_by_the_nearest_word_above(found: str, kind: str) -> None:
    assert VAIHINGEN.place(found).kind == kind


@pytest.mark.parametrize("found", ["top_mosaic_09cm_area1.tif", "a/top_mosaic_09cm_area1.tif", "labeled images/x.tif"])
def test_where_no_word_helps_nothing_is_guessed(found: str) -> None:
    found = found.replace("x.tif", "top_mosaic_09cm_area1.tif").replace("labeled", "label")
    assert hinted(found) is None
    assert VAIHINGEN.place(found) is None
    assert [place.kind for place in VAIHINGEN.places(found)] == ["image", "label"]


def test_a_world_file_shares_the_stem_of_its_picture_in_any_spelling() -> None:
    assert stem_key("w/TOP_potsdam_02_10_RGB.tfw") == stem_key("top_potsdam_2_10_RGB.tiff")
    assert stem_key("top_mosaic_09cm_area1.TFW") == stem_key("x/top_mosaic_9cm_area01.tif")


def test_names_are_composed_and_nothing_else_of_them_changes() -> None:
    assert nfc("Ko\u0308ln/a.tif") == nfc("K\u00f6ln/a.tif") == "K\u00f6ln/a.tif"
    assert nfc("\ufb01 1.TIF") == "\ufb01 1.TIF"  # a ligature is another name


def test_messages_name_one_file_of_each_kind() -> None:
    assert len(list(POTSDAM.examples())) == 4
    assert "dsm_potsdam_02_10.tif" in POTSDAM.examples()
