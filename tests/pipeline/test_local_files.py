"""pipeline/local_files.py: which parameters name a file or folder of this machine."""

from __future__ import annotations

import pytest

from pipeline.local_files import Places, prediction_places, training_places

NOTHING = {"data_path": "", "data_repo": "", "model_weights": "none"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with tiles, a repository and weights; it is also the home directory."""
    for folder in ("raw", "tiles.git"):
        (tmp_path / folder).mkdir()
    (tmp_path / "vit.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    "form",
    [
        {"data_path": "raw"},
        {"data_path": "~/raw"},
        {"data_repo": "tiles.git"},
        {"model_weights": "vit.safetensors"},
    ],
)
def test_what_is_on_this_machine_is_absolute(form, tmp_path):
    ((name, path),) = form.items()
    expected = tmp_path / path.removeprefix("~/")
    assert training_places(NOTHING | form) == Places({name: str(expected)}, (expected,))


def test_a_path_inside_of_a_repository_stays_as_it_is_though_a_folder_here_has_its_name(tmp_path):
    found = training_places(NOTHING | {"data_repo": "tiles.git", "data_path": "raw"})
    assert found.values == {"data_repo": str(tmp_path / "tiles.git")}


@pytest.mark.parametrize(
    "form",
    [
        NOTHING,
        {"data_path": "s3://bucket/raw"},
        {"data_repo": "https://git.example.org/tiles.git", "data_path": "raw"},
        {"data_path": "/nowhere", "model_weights": "hub"},
    ],
)
def test_what_is_elsewhere_or_nowhere_stays_as_it_is(form):
    assert training_places(NOTHING | form) == Places({})


MAP = {"model": "models:/city@champion", "image": "", "dsm": "", "output": "s3://city/maps"}


@pytest.fixture
def scenes(tmp_path):
    """A folder with two images."""
    for name in ("scenes/a.tif", "scenes/b.tif", "dsm/all.tif", "package/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


def test_what_is_elsewhere_stays_as_it_is_in_a_prediction():
    form = MAP | {"image": "s3://city/images", "dsm": '{"a": "/vsicurl/http://x/a.tif"}'}
    assert prediction_places(form) == Places({name: form[name] for name in ("image", "dsm", "model")})


@pytest.mark.parametrize(
    ("image", "value"),
    [
        ("scenes", "{0}/scenes"),
        ("~/scenes/a.tif", "{0}/scenes/a.tif"),
        ("scenes/*.tif", "{0}/scenes/*.tif"),
        ('["scenes/a.tif", ["scenes/b.tif"]]', '["{0}/scenes/a.tif", ["{0}/scenes/b.tif"]]'),
        ('{"x": "scenes/a.tif"}', '{{"x": "{0}/scenes/a.tif"}}'),
    ],
)
def test_names_of_rasters_become_absolute_and_their_folder_is_read(image, value, scenes, tmp_path):
    found = prediction_places(MAP | {"image": image})
    assert found.values["image"] == value.format(tmp_path)
    assert found.read == (tmp_path / "scenes",)


def test_a_package_is_read_and_a_folder_for_maps_is_written(scenes, tmp_path):
    found = prediction_places(MAP | {"model": "package", "dsm": "dsm/all.tif", "output": "maps"})
    assert found.read == (tmp_path / "dsm", tmp_path / "package")
    assert found.written == (tmp_path / "maps",)
    assert found.values["model"] == str(tmp_path / "package") and found.values["output"] == str(tmp_path / "maps")


def test_maps_next_to_their_images_are_written_to_a_folder_that_is_mounted_once(scenes, tmp_path):
    found = prediction_places(MAP | {"image": "scenes", "output": "scenes"})
    assert (found.read, found.written) == ((), (tmp_path / "scenes",))
