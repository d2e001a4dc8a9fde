"""A model refuses scenes that it was not trained for, with a remedy; what may be right is not refused."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from rasterio import Affine
from rasterio.enums import ColorInterp

from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.data.store import Heights
from components.common.errors import DataError, ParamsError
from components.common.readers.scene import SceneFiles, open_scene
from components.predict.inputs.scene_probe import probed
from components.predict.inputs.suitability import CHECKS, Objection, objections, require
from model import MoBaNetConfig
from tests.components.common.readers.conftest import HERE, slope, write
from tests.components.conftest import toy_facts

NETWORK = MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64})
FACTS = replace(toy_facts(NETWORK), bands=("red", "green", "blue"), image_range=(0.0, 255.0), gsd_m=0.5)
RGB = np.random.default_rng(0).integers(1, 255, (3, 60, 80), dtype=np.uint8)
TRAINING = Heights("training-range", 290.0, 100.0, None, (2.0, 98.0), (-0.5, 2.0), "datum")  # 240 to 490 m
GROUND = Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "ground")


@pytest.fixture
def found(tmp_path):
    """Codes and sentences of the objections to a scene."""

    def objections_to(image=RGB, dsm=None, *, facts=FACTS, bands=None, dsm_facts=None, **image_facts):
        place = {"crs": "EPSG:32633", "transform": HERE}
        names = {}
        if image is not None:
            names["image"] = write(tmp_path / "image.tif", image, **(place | image_facts))
        if dsm is not None:
            names["dsm"] = write(tmp_path / "dsm.tif", dsm.astype(np.float32)[None], **(place | (dsm_facts or {})))
        info = ImageInfo(
            files="", bands=facts.bands, range=facts.image_range, mean=(0.5,) * 3, std=(0.2,) * 3, band_numbers=bands
        )
        heights = DsmInfo(files="", relative_to=facts.heights.relative_to)
        paths = {kind: (str(names[kind]),) if kind in names else () for kind in ("image", "dsm")}
        with ExitStack() as stack:
            scene = open_scene(SceneFiles(paths["image"], paths["dsm"], info, heights, None), stack)
            return {one.code: one.sentence for one in objections(scene, probed(scene)[0], facts)}

    return objections_to


def test_a_scene_like_the_training_data_has_no_objection(found):
    assert found(dsm=slope()) == {}


def test_near_infrared_that_is_marked_as_alpha_is_refused_and_a_mask_is_not(found):
    infrared = np.random.default_rng(1).integers(0, 250, (1, 60, 80), dtype=np.uint8)
    mask = np.where(infrared < 100, 0, 255).astype(np.uint8)
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert "as near infrared would be" in found(np.concatenate([RGB, infrared]), colours=colours)["alpha"]
    assert found(np.concatenate([RGB, mask]), colours=colours) == {}


@pytest.mark.parametrize(
    ("colours", "names", "bands", "remedy"),
    [
        (("blue", "green", "red"), None, None, "blue, green, red, the model's red, green, blue: add --bands 3,2,1"),
        (
            None,
            ("NIR", "Red", "Green"),
            None,
            "nir, red, green, the model's red, green, blue: pick the bands with --bands",
        ),
        (("red", "green", "blue"), None, (3, 2, 1), "add --bands 1,2,3"),
        (("blue", "green", "red"), None, (3, 2, 1), None),
        (("red", "green", "blue"), ("band 1", "band 2", ""), None, None),
        (("gray", "undefined", "undefined"), None, None, None),
    ],
)
def test_names_of_bands_that_contradict_the_model_are_refused(found, colours, names, bands, remedy):
    colours = [getattr(ColorInterp, name) for name in colours] if colours else None
    sentences = found(bands=bands, colours=colours, descriptions=names)
    assert list(sentences) == (["bands"] if remedy else [])
    assert remedy is None or sentences["bands"].endswith(remedy)


def test_the_usual_colours_of_a_tiff_say_nothing_about_near_infrared(found):
    facts = replace(FACTS, bands=("near infrared", "red", "green"))
    assert found(facts=facts, photometric="rgb") == {}


@pytest.mark.parametrize(("metres", "refused"), [(0.2, True), (0.26, False), (0.99, False), (1.1, True)])
def test_a_ground_size_more_than_twice_as_large_or_small_is_refused(found, metres, refused):
    sentences = found(transform=HERE @ Affine.scale(metres / 0.5))
    assert list(sentences) == (["ground-size"] if refused else [])
    expected = f"a pixel is {metres:g} m wide on the ground, the model was trained with 0.5 m: resample the scene"
    assert not refused or sentences["ground-size"].startswith(expected)


def test_without_a_position_the_ground_size_is_not_checked_and_a_line_says_so(found, caplog):
    assert found(crs=None, transform=None) == {}
    assert "the ground size of its pixels was not checked" in caplog.text


@pytest.mark.parametrize(
    ("pixels", "value_range", "refused"),
    [
        ((RGB / 255).astype(np.float32), (0, 255), True),
        (RGB.astype(np.uint16) * 39, (0, 255), True),
        (RGB, (0, 65535), True),
        (RGB.astype(np.uint16), (0, 65535), True),
        (RGB, (0, 10000), True),
        ((RGB // 40).astype(np.uint8), (0, 255), False),  # a dark scene
        (RGB.astype(np.uint16) * 50, (0, 10000), False),  # bright clouds
        (np.zeros((3, 60, 80), np.uint8), (0, 255), False),
    ],
)
def test_values_that_cannot_come_from_the_range_of_the_training_are_refused(found, pixels, value_range, refused):
    facts = replace(FACTS, image_range=tuple(map(float, value_range)))
    assert list(found(pixels, facts=facts)) == (["value-range"] if refused else [])


def test_a_scale_of_the_file_counts_for_its_values(found):
    pixels = (RGB / 255).astype(np.float32)
    assert found(pixels, scales=(255.0,) * 3) == {}
    assert list(found(RGB, scales=(1 / 255,) * 3)) == ["value-range"]


@pytest.mark.parametrize(
    ("heights", "dsm", "words"),
    [
        (TRAINING, slope() - 40, "its heights are"),
        (TRAINING, slope() + 250, None),
        (GROUND, slope() + 250, "which are absolute; the model was trained with heights above the ground"),
        (GROUND, slope() - 40, None),
    ],
)
def test_heights_of_another_kind_than_those_of_the_training_are_refused(found, heights, dsm, words):
    sentences = found(dsm=dsm, facts=replace(FACTS, heights=heights))
    assert list(sentences) == (["heights-range"] if words else [])
    assert words is None or words in sentences["heights-range"]


def test_a_dsm_of_another_place_is_refused(found):
    sentences = found(dsm=slope(), dsm_facts={"transform": HERE @ Affine.translation(500, 0)})
    assert "no pixel of the image has a height" in sentences["no-overlap"]


def test_a_dsm_of_a_part_of_the_image_is_not_refused(found):
    assert found(dsm=slope(), dsm_facts={"transform": HERE @ Affine.translation(78, 0)}) == {}


@pytest.mark.parametrize(("sensor", "image", "dsm"), [("rgb", None, slope()), ("dsm", RGB, None)])
def test_a_model_of_one_sensor_needs_that_sensor(found, sensor, image, dsm):
    facts = replace(FACTS, network=replace(NETWORK, modalities=(sensor,)))
    assert "no-sensor" in found(image, dsm, facts=facts)


def test_an_objection_stops_unless_its_code_is_allowed(caplog):
    doubts = [Objection("ground-size", "a pixel is 3 m wide"), Objection("value-range", "its values are 0 to 1")]
    with pytest.raises(DataError, match=r"^a pixel is 3 m wide; to predict anyway, add --allow ground-size$"):
        require(doubts, {"value-range"})
    require(doubts, {"value-range", "ground-size"})
    assert "a pixel is 3 m wide (allowed: ground-size)" in caplog.text


def test_an_unknown_code_lists_the_known_ones():
    with pytest.raises(ParamsError, match=r"^--allow size: no check has this name; expected some of ") as caught:
        require([], {"size"})
    assert all(code in str(caught.value) for code in CHECKS)
