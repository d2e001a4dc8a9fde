from __future__ import annotations

import pytest

from components.acquire.names import Names
from components.common import isprs

POTSDAM, VAIHINGEN = Names(isprs.dataset("potsdam")), Names(isprs.dataset("vaihingen"))


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ("top_potsdam_2_10_RGB.tif", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("my stuff/TOP_POTSDAM_2_10_rgb.TIF", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("a.zip/b.zip/top_potsdam_02_10_RGB.tif", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"),
        ("dsm_potsdam_02_10.tif", "1_DSM/dsm_potsdam_02_10.tif"),
        ("dsm_potsdam_2_10.tif", "1_DSM/dsm_potsdam_02_10.tif"),
        ("x/dsm_potsdam_02_10.tfw", "1_DSM/dsm_potsdam_02_10.tfw"),
        ("x/top_potsdam_7_7_label.tif", "5_Labels_all/top_potsdam_7_7_label.tif"),
        ("x/top_potsdam_7_7_label_noBoundary.tif", "5_Labels_all_noBoundary/top_potsdam_7_7_label_noBoundary.tif"),
    ],
)
def test_a_potsdam_file_is_known_by_its_name(found: str, place: str) -> None:
    assert POTSDAM.place(found) == place


@pytest.mark.parametrize(
    "found",
    [
        "top_potsdam_2_10_RGBIR.tif",
        "top_potsdam_9_99_RGB.tif",
        "top_potsdam_2_10_RGB.tif.aux.xml",
        "dsm_potsdam_02_10_normalized_lastools.jpg",
        "readme.txt",
    ],
)
def test_other_files_have_no_place(found: str) -> None:
    assert POTSDAM.place(found) is None


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ("top/top_mosaic_09cm_area1.tif", "top/top_mosaic_09cm_area1.tif"),
        ("top_mosaic_09cm_area1.tfw", "top/top_mosaic_09cm_area1.tfw"),
        ("v.zip/gts_for_participants/top_mosaic_09cm_area1.tif", "gts_for_participants/top_mosaic_09cm_area1.tif"),
        ("V_ground_truth_COMPLETE.zip/top_mosaic_09cm_area1.tif", "gts_for_participants/top_mosaic_09cm_area1.tif"),
        ("top_mosaic_09cm_area38_noBoundary.tif", "gts_for_participants/top_mosaic_09cm_area38_noBoundary.tif"),
        ("dsm/dsm_09cm_matching_area11.tif", "dsm/dsm_09cm_matching_area11.tif"),
    ],
)  # fmt: skip
def test_an_image_and_its_label_of_one_name_are_told_apart_by_what_is_above(found: str, place: str) -> None:
    assert VAIHINGEN.place(found) == place


def test_messages_name_one_file_of_each_kind() -> None:
    assert len(list(POTSDAM.examples())) == 4
    assert "dsm_potsdam_02_10.tif" in POTSDAM.examples()
