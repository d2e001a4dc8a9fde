import pytest

from components.common import isprs
from components.common.errors import ParamsError


@pytest.mark.parametrize(
    ("dataset", "name", "trainval", "test"),
    [
        ("potsdam", "official", 24, 14),
        ("potsdam", "official-minus-7_10", 23, 14),
        ("potsdam", "ssrs", 18, 6),
        ("potsdam", "sample", 8, 2),
        ("vaihingen", "official", 16, 17),
        ("vaihingen", "ssrs", 12, 4),
    ],
)
def test_splits_are_disjoint_and_as_large_as_published(dataset, name, trainval, test):
    split = isprs.split(dataset, name)
    assert len(split.train) + len(split.val) == trainval
    assert len(split.test) == test
    assert min(len(split.train), len(split.val)) > 0
    assert len(set(split.tiles)) == trainval + test


def test_the_splits_hold_the_published_tiles():
    official = isprs.split("potsdam", "official")
    assert sorted(official.test) == sorted(
        "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split()
    )
    reduced = isprs.split("potsdam", "official-minus-7_10")
    assert set(official.tiles) - set(reduced.tiles) == {"7_10"}
    assert official.val == reduced.val
    ssrs = isprs.split("potsdam", "ssrs")
    assert {*ssrs.train, *ssrs.val} == set(
        "6_10 7_10 2_12 3_11 2_10 7_8 5_10 3_12 5_12 7_11 7_9 6_9 7_7 4_12 6_8 6_12 6_7 4_11".split()
    )
    assert set(ssrs.test) == set("4_10 5_11 2_11 3_10 6_11 7_12".split())
    vaihingen = isprs.split("vaihingen", "official")
    assert {*vaihingen.train, *vaihingen.val} == set("1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37".split())
    assert set(vaihingen.test) == set("2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38".split())
    four = isprs.split("vaihingen", "ssrs")
    assert {*four.train, *four.val} == set("1 3 23 26 7 11 13 28 17 32 34 37".split())
    assert set(four.test) == set("5 21 15 30".split())


def test_a_tile_knows_its_subset_and_a_stranger_is_refused():
    split = isprs.split("potsdam", "sample")
    assert [split.subset_of(tile) for tile in ("2_10", "4_10", "5_11")] == ["train", "val", "test"]
    with pytest.raises(KeyError):
        split.subset_of("9_9")


def test_an_unknown_split_names_those_there_are():
    with pytest.raises(ParamsError, match=r"preprocess.split is 'x'; vaihingen has the splits official, ssrs"):
        isprs.split("vaihingen", "x")


def test_classes_come_in_label_order_and_clutter_is_left_out_of_the_means():
    assert [c.name for c in isprs.classes()] == [
        "impervious", "building", "low_vegetation", "tree", "car", "clutter",
    ]  # fmt: skip
    assert isprs.palette().tolist() == [
        [255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0],
    ]  # fmt: skip
    assert [c.name for c in isprs.classes() if not c.in_means] == ["clutter"]


def test_file_names_are_those_of_the_benchmark():
    potsdam, vaihingen = isprs.dataset("potsdam"), isprs.dataset("vaihingen")
    assert potsdam.path("image", "2_10") == "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"
    assert potsdam.path("dsm", "2_10") == "1_DSM/dsm_potsdam_02_10.tif"
    assert potsdam.path("eroded", "7_9") == "5_Labels_all_noBoundary/top_potsdam_7_9_label_noBoundary.tif"
    assert vaihingen.path("label", "1") == "gts_for_participants/top_mosaic_09cm_area1.tif"
    assert (potsdam.bands, potsdam.gsd_m) == (("red", "green", "blue"), 0.05)
    assert (vaihingen.bands, vaihingen.gsd_m) == (("near infrared", "red", "green"), 0.09)


def test_every_source_has_its_acknowledgement():
    assert "Generated" in isprs.acknowledgement("sample")
    assert "DGPF" in isprs.acknowledgement("vaihingen")
    assert "Cramer, 2010" in isprs.acknowledgement("vaihingen")
    assert "ISPRS" in isprs.acknowledgement("potsdam")
