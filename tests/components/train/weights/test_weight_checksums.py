"""A local weight file that params.yaml names is a dependency of the train stage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from components.common.errors import WeightsError
from components.common.files import digest
from components.train.weights.weight_checksums import checksums
from components.train.weights.weight_sources import local_file

ROOT = Path(__file__).parents[4]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A DVC repository with the stages `weights` and `train` of dvc.yaml; training itself is replaced by one line."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    weights, train = (stages["stages"][name] for name in ("weights", "train"))
    train |= {"cmd": "date +%N > models/model", "outs": ["models/model"]}
    train["deps"] = [dep for dep in train["deps"] if dep in weights["outs"][0]]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(stages | {"stages": {"weights": weights, "train": train}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(no_scm=True).close()
    return tmp_path


@pytest.fixture
def trains(repository):
    """Whether `dvc repro` trains with these values of section `model`."""

    def repro(weights="none", init=None):
        given = {"model": {"weights": weights, "init": init}, "train": {}}
        (repository / "params.yaml").write_text(yaml.safe_dump(given))
        with Repo() as repo:
            ran = [stage.name for stage in repo.reproduce()]
        assert ran[0] == "weights"
        return ran[1:] == ["train"]

    return repro


@pytest.mark.parametrize("key", ["weights", "init"])
def test_another_content_under_the_same_name_trains_again(trains, repository, key):
    file = repository / "vit.safetensors"
    file.write_bytes(b"first")
    assert trains(**{key: "vit.safetensors"})
    assert not trains(**{key: "vit.safetensors"})
    file.write_bytes(b"second")
    assert trains(**{key: "vit.safetensors"})
    assert not trains(**{key: "vit.safetensors"})


def test_sources_that_are_no_local_file_train_once(trains):
    for given in ({"weights": "s3://bucket/vit.pth"}, {"init": "models:/mobanet@champion"}):
        assert trains(**given), given
        assert not trains(**given), given


@pytest.mark.parametrize("source", ["none", "hub", "s3://bucket/vit.pth", "models:/mobanet/3", None])
def test_a_source_elsewhere_is_no_local_file(source):
    assert local_file(source) is None


def test_a_checksum_is_that_of_the_content(tmp_path):
    file = tmp_path / "earlier.safetensors"
    file.write_bytes(b"weights")
    assert checksums("none", str(file)) == {"model.init": digest(file)}
    assert checksums("hub", None) == {}


@pytest.mark.parametrize(("weights", "init"), [("gone.pth", None), ("none", "gone.pth")])
def test_a_missing_file_is_reported_with_its_key(weights, init):
    key = "model.weights" if init is None else "model.init"
    with pytest.raises(WeightsError, match=rf"gone\.pth: file not found; correct {key}"):
        checksums(weights, init)
