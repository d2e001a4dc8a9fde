"""Every finding is shown on a small data set, and every remedy that names a key is applied: it must work."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import yaml
from rasterio import Affine

from components.check.findings import CODES
from tests.components.check.remedy_cases import (
    Case,
    bent_points,
    both,
    coloured,
    colours,
    copied,
    cropped,
    delete,
    eroded_labels,
    everywhere,
    facts,
    infrared_first,
    layer,
    moved,
    numbered,
    params,
    part,
    rewrite,
    sparse,
    split,
    tile_moved,
    town,
    write,
)

LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
WITHOUT_CODE = 'LOCAL_CS["ETRS89 / UTM zone 32N",UNIT["metre",1]]'
HINT = re.compile(r"; to accept it, set check\.accept: (\{.*\})$")
VERBS = "add check convert copy correct cut look move pick put raise rectify remove resample set use write".split()
DO = re.compile(rf"[;:,] (?:or |if [^;:]*, )?(?:{'|'.join(VERBS)}) ")
WATER = {"name": "water", "rgb": [9, 9, 9], "in_means": True, "value": 7}
FEET = 1 / 0.3048
ALL, HALF, CORNER = slice(None), slice(0, 40), slice(0, 10)


def with_water(data):
    data.facts["classes"] = [*data.facts["classes"], WATER]


def with_infrared(image):
    return np.concatenate([image, part(CORNER, ALL, 0)(np.full_like(image[:1], 90))])


def plain_mask(data):
    write(data.files / "valid.tif", np.full((1, 64, 64), 255, np.uint8))
    (data.files / "valid.tif").rename(data.files / "dsm/a.tif.msk")


def with_alpha(label):
    return np.concatenate([label, (label > 0).astype(np.uint8) * 255])


CASES = [
    # files
    Case("file-missing", delete("labels/a.tif"), (split(train=["d"]),)),
    Case("unpaired", delete("dsm/a.tif")),
    Case("unpaired", delete("images/a.tif")),
    Case("sensor-absent", delete("dsm/b.tif")),
    Case("tile-missing", delete("images/a.tif", "dsm/a.tif", "labels/a.tif"), (split(train=["d"]),)),
    Case(
        "band-count",
        rewrite("images/a.tif", lambda image: np.concatenate([image, image[:2]])),
        (layer("image", bands={"red": 1, "green": 2, "blue": 3}),),
    ),
    Case("pixel-type", rewrite("dsm/a.tif", lambda dsm: dsm.astype(np.uint8))),
    Case("mask-unread", plain_mask),
    Case("sparse", sparse("labels/a.tif")),
    # position
    Case("position-inexact", bent_points(0.8)),
    Case("crs-unknown", rewrite("images/a.tif", crs=LOCAL), (params("data", crs="EPSG:25832"),)),
    Case("crs-missing", rewrite("images/a.tif", crs=None), (params("data", crs="EPSG:25832"),)),
    Case("crs-replaced", both(rewrite("images/a.tif", crs=LOCAL), params("data", crs="EPSG:25832"))),
    Case("crs-matched", rewrite("images/a.tif", crs=WITHOUT_CODE)),
    Case(
        "crs-assumed",
        both(rewrite("dsm/a.tif", lambda dsm: dsm[:, 4:], crs=None), moved("dsm/a.tif", down_px=4)),
    ),
    Case("crs-differs", params("data", crs="EPSG:25833"), (params("data", crs="EPSG:25832"), params("data", crs=None))),
    Case("no-georeference", rewrite("images/a.tif", transform=None)),
    Case("grid-mismatch", rewrite("dsm/a.tif", lambda dsm: dsm[:, :40], transform=None)),
    Case("low-coverage", moved("dsm/a.tif", right_px=48)),
    Case(
        "low-coverage",
        both(rewrite("dsm/a.tif", crs=None), params("data", crs="EPSG:25833")),
        (params("data", crs="EPSG:25832"),),
    ),
    Case("padded", rewrite("dsm/a.tif", lambda dsm: dsm[:, :, :60])),
    Case("partly-covered", rewrite("dsm/a.tif", lambda dsm: dsm[:, :, :44])),
    Case("warped", both(rewrite("dsm/a.tif", lambda dsm: dsm[:, ::2, ::2]), moved("dsm/a.tif", scale=2))),
    Case("label-warped", both(rewrite("labels/a.tif", lambda y: y[:, ::2, ::2]), moved("labels/a.tif", scale=2))),
    Case("gsd-differs", facts(gsd_m=0.5), (facts(gsd_m=0.25),)),
    Case("size-odd", cropped("a")),
    # images
    Case("image-constant", rewrite("images/a.tif", np.zeros_like)),
    Case("image-blank", rewrite("images/a.tif", np.zeros_like, nodata=0), (split(train=["d"]),)),
    Case(
        "image-alpha",
        rewrite("images/a.tif", with_infrared, photometric="rgb", alpha="yes"),
        (layer("image", nodata=[]),),
    ),
    Case("image-missing", rewrite("images/a.tif", part(CORNER, ALL, 0), nodata=0)),
    Case("image-black", rewrite("images/a.tif", part(CORNER, ALL, 0)), (layer("image", nodata=[0]),)),
    Case("image-range", layer("image", range=[0, 100]), (layer("image", range=[0, 255]),)),
    Case("image-range", layer("image", range=[0, 10000]), (layer("image", range=[0, 255]),)),
    Case("image-is-label", rewrite("images/a.tif", lambda image: (image > 128).astype(np.uint8) * 255)),
    Case(
        "bands-swapped",
        infrared_first,
        (layer("image", bands={"red": 2, "green": 3, "blue": 4, "near infrared": 1}),),
    ),
    # heights
    Case("dsm-blank", everywhere("dsm", lambda dsm: dsm * 1000), (layer("dsm", unit_m=0.001),)),
    Case(
        "dsm-blank",
        both(
            everywhere("dsm", lambda dsm: dsm - 50),
            rewrite("dsm/a.tif", np.zeros_like, nodata=0),
            layer("dsm", relative_to="ground"),
        ),
        (layer("dsm", nodata=[]),),
    ),
    Case("dsm-constant", rewrite("dsm/a.tif", lambda dsm: np.full_like(dsm, 35))),
    Case("dsm-holes", rewrite("dsm/a.tif", part(CORNER, CORNER, np.nan))),
    Case(
        "dsm-missing",
        rewrite("dsm/a.tif", part(HALF, ALL, np.nan)),
        (params("check", max_dsm_missing_share=0.7), split(train=["d"])),
    ),
    Case(
        "dsm-nodata-found",
        rewrite("dsm/a.tif", part(CORNER, CORNER, 0)),
        (layer("dsm", nodata=[0]), layer("dsm", nodata=[])),
    ),
    Case("dsm-outliers", rewrite("dsm/a.tif", part(slice(2), slice(2), 3000))),
    Case(
        "dsm-saturated",
        both(
            everywhere("dsm", lambda dsm: ((dsm - 50) * 40).clip(0, 255).astype(np.uint8)),
            layer("dsm", relative_to="ground", unit_m=0.1),
        ),
    ),
    Case("dsm-units", everywhere("dsm", lambda dsm: dsm * 10), (layer("dsm", unit_m=0.1),)),
    Case(
        "dsm-units-differ",
        both(everywhere("dsm", lambda dsm: dsm * np.float32(FEET), unit="ft"), layer("dsm", unit_m=0.1)),
        (layer("dsm", unit_m=None),),
    ),
    Case("unit-converted", everywhere("dsm", lambda dsm: dsm * np.float32(FEET), unit="ft")),
    Case(
        "unit-replaced",
        both(everywhere("dsm", unit="m"), layer("dsm", unit_m=0.1)),
        (layer("dsm", unit_m=None),),
    ),
    Case("scale-applied", rewrite("dsm/a.tif", scale=2.0, offset=-50.0), (layer("dsm", scale=1, offset=0),)),
    Case("dsm-normalised", everywhere("dsm", lambda dsm: dsm - 50), (layer("dsm", relative_to="ground"),)),
    Case("dsm-absolute", layer("dsm", relative_to="ground"), (layer("dsm", relative_to="datum"),)),
    # labels
    Case("colours-snapped", coloured((250, 3, 2), (0, 255, 0), (0, 0, 255))),
    Case(
        "colours-unknown",
        rewrite("labels/a.tif", part(slice(1), slice(2), 7)),
        (layer("label", ignore=[7]), with_water),
    ),
    Case(
        "label-unknown",
        rewrite("labels/a.tif", part(CORNER, CORNER, 7)),
        (layer("label", ignore=[7]), with_water, params("preprocess", max_unknown_share=0.1)),
    ),
    Case("label-missing", rewrite("labels/a.tif", part(CORNER, CORNER, 7), nodata=7)),
    Case("label-nodata", rewrite("labels/a.tif", nodata=0), (layer("label", nodata=[]),)),
    Case("label-hidden", rewrite("labels/a.tif", with_alpha, alpha="yes"), (layer("label", nodata=[]),)),
    Case("label-scaled", rewrite("labels/a.tif", scale=1.0, offset=1.0)),
    Case(
        "label-foreign",
        coloured((180, 70, 70), (0, 255, 0), (0, 0, 255)),
        (colours([180, 70, 70], [0, 255, 0], [0, 0, 255]),),
    ),
    Case("label-blank", rewrite("labels/a.tif", lambda y: np.full_like(y, 255)), (split(train=["d"]),)),
    Case("label-constant", rewrite("labels/a.tif", np.zeros_like)),
    Case(
        "label-eroded",
        both(eroded_labels(lambda full, eroded: eroded), copied("eroded/a.tif", "labels/a.tif"), facts(eroded=None)),
    ),
    Case("eroded-full", eroded_labels(lambda full, eroded: full)),
    Case(
        "eroded-differs",
        eroded_labels(lambda full, eroded: np.where(eroded == 1, 2, eroded).astype(np.uint8)),
        (params("check", max_disagreement_share=0.5),),
    ),
    # the set as a whole
    Case("duplicate", copied("images/a.tif", "images/d.tif"), (split(train=["a"]),)),
    Case("same-file", numbered, (split(train=["1", "4"]),)),
    Case("overlap", tile_moved("b", -2), (split(train=["a", "b", "d"], val=[]),)),
    Case("overlap-large", tile_moved("b", -10), (split(train=["a", "b", "d"], val=[]),)),
    Case("class-shares", facts(class_shares=[10.0, 80.0, 10.0])),
]


def spoiled(folder, case, *changes):
    data = town(folder)
    both(case.spoil, *changes)(data)
    return data


def found(ended, code):
    return [one for one in ended.findings if one["code"] == code]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_fault_is_found_and_its_sentence_names_a_remedy(tmp_path, case):
    ended = spoiled(tmp_path, case).run()
    assert found(ended, case.code), ended.said()
    if CODES[case.code].severity != "repaired":
        assert all(DO.search(one["sentence"]) for one in found(ended, case.code)), ended.said()


@pytest.mark.parametrize(
    ("case", "number"),
    [(case, number) for case in CASES for number in range(len(case.remedies))],
    ids=lambda value: value.code if isinstance(value, Case) else str(value),
)
def test_a_remedy_that_names_a_key_works(tmp_path, case, number):
    ended = spoiled(tmp_path, case, case.remedies[number]).run()
    assert not found(ended, case.code), ended.said()
    assert not ended.errors, ended.said()


@pytest.mark.parametrize("case", [case for case in CASES if CODES[case.code].acceptable], ids=lambda case: case.code)
def test_an_error_of_judgement_can_be_accepted_as_its_sentence_says(tmp_path, case):
    """A layer that is accepted is read on, so another error may turn up, which is accepted in turn."""
    data, accept = spoiled(tmp_path, case), {}
    while (ended := data.run()).errors:
        sentences = [one["sentence"] for one in ended.found()]
        said = [yaml.safe_load(HINT.search(sentence)[1]) for sentence in sentences]
        assert not any(code in accept and set(tiles) & set(accept[code]) for one in said for code, tiles in one.items())
        for code, tiles in (item for one in said for item in one.items()):
            accept.setdefault(code, []).extend(tiles)
        params("check", accept=accept)(data)
    assert {one["severity"] for one in found(ended, case.code)} == {"accepted"}
    assert {one["code"] for one in ended.found("accepted")} == set(accept)
    assert ended.store.manifest.accepted == {code: tuple(tiles) for code, tiles in accept.items()}


PACKAGES = {  # code -> what is wrong with an unpacked package of Potsdam
    "unreadable": {"truncated": [("2_11", "label")]},
    "split-incomplete": {},
    "found-twice": {"twice": ("2_11",)},
    "wrongly-annotated": {"tiles": ("2_10", "7_10")},
    "off-place": {"same_place": {"2_12": "2_11"}},
}


@pytest.mark.parametrize("code", PACKAGES)
def test_a_fault_of_a_package_is_found(package, checked, code):
    assert code in {one.code for one in checked(package(**PACKAGES[code])).findings}


def test_a_small_shift_in_a_package_is_noted_and_not_resampled(package, moved, checked):
    folder = package()
    moved(folder, "top_potsdam_2_11_label.tif", Affine.translation(0.3, 0))
    assert [one.code for one in checked(folder).findings if one.tile == "2_11"] == ["grid-shift"]


def test_a_name_that_fits_two_layers_is_found(package, checked):
    folder = package("vaihingen", ("1", "2"))
    image = next(folder.rglob("top/top_mosaic_09cm_area1.tif"))
    image.rename(folder / image.name)
    assert "unplaced" in {one.code for one in checked(folder).findings}


def test_the_cases_cover_every_code():
    assert CODES.keys() - {case.code for case in CASES} - PACKAGES.keys() == {"grid-shift", "unplaced"}


def test_every_remedy_that_names_a_key_has_a_case():
    """A key of dataset.yaml or params.yaml, with a dot or in backticks."""
    keys = re.compile(r"(check|preprocess|data|image|dsm|label)\.[a-z_]+|`[a-z]+`|gsd_m")
    named = {code for code, about in CODES.items() if keys.search(about.remedy)}
    assert named - {case.code for case in CASES if case.remedies} == set()
