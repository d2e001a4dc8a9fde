"""pipeline/local.py: which parameters name a file or folder of this machine."""

from __future__ import annotations

import pytest

from pipeline.local import files_here

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
    assert files_here(NOTHING | form) == {name: tmp_path / path.removeprefix("~/")}


def test_a_path_inside_of_a_repository_stays_as_it_is_though_a_folder_here_has_its_name(tmp_path):
    assert files_here(NOTHING | {"data_repo": "tiles.git", "data_path": "raw"}) == {"data_repo": tmp_path / "tiles.git"}


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
    assert files_here(NOTHING | form) == {}
