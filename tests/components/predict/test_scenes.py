"""components/predict/publication/scenes.py: what the texts `image` and `dsm` of a run name."""

from __future__ import annotations

import json

import pytest

from components.common.errors import DataError, ParamsError
from components.predict.publication import buckets
from components.predict.publication.scenes import SceneNames, moved, scenes_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with images and heights, and a bucket with the same files."""
    names = ["images/b.tif", "images/a.TIF", "images/a.tfw", "images/.hidden.tif", "images/east/a.jp2"]
    names += ["dsm/a.tif", "dsm/b.asc", "dsm/east/a.tif", "few/a.tif", "empty/notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    keys = [f"s3://city/{name}" for name in sorted(names)]
    monkeypatch.setattr(buckets, "objects", lambda uri: [key for key in keys if key.startswith(f"{uri.rstrip('/')}/")])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("root", ["images", "s3://city/images", "s3://city/images/"])
def test_every_raster_below_a_folder_or_prefix_is_a_scene(root, here):
    found = scenes_of(root, "")
    root = root.rstrip("/")
    assert found == [
        SceneNames("a", (f"{root}/a.TIF",), ()),
        SceneNames("b", (f"{root}/b.tif",), ()),
        SceneNames("east_a", (f"{root}/east/a.jp2",), ()),
    ]


def test_heights_of_a_folder_belong_to_the_images_of_the_same_name(here):
    found = {scene.name: scene.dsm for scene in scenes_of("images", "dsm")}
    assert found == {"a": ("dsm/a.tif",), "b": ("dsm/b.asc",), "east_a": ("dsm/east/a.tif",)}


@pytest.mark.parametrize("dsm", ["dsm/a.tif", "dsm/*.tif", "s3://city/dsm.vrt"])
def test_a_single_raster_of_heights_belongs_to_all_images(dsm, here):
    assert {scene.dsm for scene in scenes_of("images", dsm)} == {(dsm,)}


def test_a_glob_is_one_mosaic_and_an_address_one_scene(here):
    assert scenes_of("images/*.tif", "") == [SceneNames("images", ("images/*.tif",), ())]
    assert scenes_of("*.tif", "")[0].name == "mosaic"
    (scene,) = scenes_of("https://example.org/city.tif?token=1", "")
    assert (scene.name, scene.image) == ("city", ("https://example.org/city.tif?token=1",))


def test_json_names_scenes_and_mosaics():
    assert scenes_of('["x/a.tif", ["x/b1.tif", "x/b2.tif"]]', "") == [
        SceneNames("a", ("x/a.tif",), ()),
        SceneNames("b1", ("x/b1.tif", "x/b2.tif"), ()),
    ]
    images, dsm = {"north": ["1.tif", "2.tif"], "south": "3.tif"}, {"north": "4.tif"}
    assert scenes_of(json.dumps(images), json.dumps(dsm)) == [
        SceneNames("north", ("1.tif", "2.tif"), ("4.tif",)),
        SceneNames("south", ("3.tif",), ()),
    ]


def test_without_images_the_heights_are_the_scenes(here):
    assert scenes_of("", "few") == [SceneNames("a", (), ("few/a.tif",))]
    assert scenes_of("", "dsm/a.tif") == [SceneNames("a", (), ("dsm/a.tif",))]


@pytest.mark.parametrize(
    ("image", "dsm", "error", "sentence"),
    [
        ("", " ", ParamsError, "image and dsm are empty"),
        ("empty", "", DataError, "empty: no raster below it; image can be a folder"),
        ("s3://city/nothing", "", DataError, "s3://city/nothing: no raster below it"),
        ("images", "few", DataError, "few: no raster has the name of the image b"),
        ("{", "", ParamsError, "image is not valid JSON"),
        ("[]", "", ParamsError, "expected at least one scene"),
        ('{"a": 3}', "", ParamsError, "image has the entry 3; expected a file or a list of files"),
        ('{"a": []}', "", ParamsError, r"image has the entry \[\]"),
        ('["x/a.tif", "y/a.tif"]', "", ParamsError, "image has two scenes named a"),
        ('{"../a": "a.tif"}', "", ParamsError, r"image names a scene '../a'"),
        ('{"a": "a.tif"}', '{"b": "b.tif"}', ParamsError, "dsm names the scene b, but image does not; .* are a"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(image, dsm, error, sentence, here):
    with pytest.raises(error, match=sentence):
        scenes_of(image, dsm)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("a.tif", "A.TIF"), ('["a", ["b"]]', '["A", ["B"]]'), ('{"x": ["a"]}', '{"x": ["A"]}')],
)
def test_every_name_of_a_text_can_be_changed(text, expected):
    assert moved(text, str.upper) == expected
