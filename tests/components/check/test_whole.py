from __future__ import annotations

import pytest
from pyproj import Transformer
from rasterio import Affine

from components.check.config import Subject
from components.check.whole import class_shares, same_files
from components.common.data import datasets
from components.common.data.datasets import Split

LAYERS = ("{}_RGB.tif", "dsm_potsdam_0{}.tif", "{}_label.tif", "{}_label_noBoundary.tif")


@pytest.mark.parametrize(
    ("shift_px", "code"), [(0, None), (0.9, None), (1.1, "overlap"), (3, "overlap"), (10, "overlap-large")]
)
def test_footprints_may_touch_by_a_pixel(package, moved, codes, shift_px, code):
    """2_11 is a training tile and 2_12 a validation tile of `official`; 2_12 lies right of 2_11."""
    folder = package(tiles=("2_11", "2_12"))
    for layer in LAYERS:
        moved(folder, layer.format("2_12"), Affine.translation(-shift_px, 0))
    assert codes(folder) == ({(code, "2_11")} if code else set())


def test_tiles_of_one_subset_may_overlap(package, codes):
    assert "overlap-large" not in {code for code, _ in codes(package(same_place={"3_10": "3_11"}), split="official")}


def test_a_test_tile_on_the_ground_of_a_training_tile_is_found_across_zones(own_data, rewritten, checked):
    folder = own_data()
    east, north = Transformer.from_crs(25832, 25833, always_xy=True).transform(500_000, 5_800_000)
    place = Affine(0.2, 0, east, 0, -0.2, north)
    for name in ("images", "h", "labels"):
        rewritten(folder / name, "b.tif", crs="EPSG:25833", transform=place)
    (one,) = [one for one in checked(folder, dataset="mine").findings if one.code == "overlap-large"]
    assert one.tile == "a" and "with tile b, which is in another subset (half: train and test)" in one.sentence


def test_a_turned_neighbour_does_not_overlap_although_the_box_around_it_does(own_data, rewritten, codes):
    folder = own_data()
    place = Affine.translation(500_011.3, 5_800_004) @ Affine.rotation(30) @ Affine.scale(0.2, -0.2)
    for name in ("images", "h", "labels"):
        rewritten(folder / name, "b.tif", transform=place)
    assert not {code for code, _ in codes(folder, dataset="mine")} & {"overlap", "overlap-large"}


def test_a_copy_in_another_encoding_is_found(package, rewritten, checked):
    folder = package(copies={"2_12": "2_11"})
    rewritten(folder, "2_12_RGB", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    copies = [one for one in checked(folder).findings if one.code == "duplicate"]
    assert {one.file.split("/")[-1] for one in copies} >= {"top_potsdam_2_12_RGB.tif"}
    assert "different subsets" in copies[0].sentence


def test_two_ids_of_one_file_are_an_error(config):
    split = Split("mine", train=("2_10",), val=(), test=("02_10",))
    subject = Subject(datasets.dataset("potsdam"), {}, (split,), True, config())
    assert [(one.code, one.tile) for one in same_files(subject)] == [("same-file", "02_10")]


def shares_of(package, checked, tiles, **options):
    report = checked(package(tiles=tiles), **options)
    return [one.sentence for one in class_shares(report.subject)]


def test_class_shares_of_all_tiles_must_agree_to_the_limit(package, checked, monkeypatch):
    tiles = datasets.tiles("vaihingen")
    folder = package("vaihingen", tiles)
    assert not [one for one in checked(folder).findings if one.code == "class-shares"]
    strict = checked(folder, max_class_share_deviation=0.01).findings
    assert [one for one in strict if one.code == "class-shares"]


def test_class_shares_of_some_tiles_may_differ_as_much_as_tiles_do(config, package, checked):
    report = checked(package())
    assert not list(class_shares(report.subject))
    one_tile = {"2_10": report.subject.tiles["2_10"]}
    assert not list(class_shares(Subject(report.subject.dataset, one_tile, (), False, config())))
