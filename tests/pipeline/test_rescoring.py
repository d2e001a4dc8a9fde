"""pipeline/rescoring.py: a model is scored on inputs made by its own facts, or rejected."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.acquire import step as acquire
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.data.store import Heights, read_manifest
from components.common.errors import DataError, StoreError, TrustError
from components.common.files import digest
from components.common.inference.modelfile import save_model
from components.common.params import section
from components.common.tracking.packages import verify_statement
from components.common.trust.config import TrustConfig
from components.evaluate import step as evaluate
from components.preprocess import step as preprocess
from model import MoBaNet, MoBaNetConfig
from pipeline import rescoring
from pipeline.presets.preset import SHIPPED
from pipeline.rescoring import Settings, as_trained, rescore
from tests.components.conftest import toy_facts

URI = "models:/city/1"
RANGE = Heights("training-range", 30.0, 7.0, None, None, (-0.5, 2.0), "datum")
"""Heights of a model that was trained elsewhere: not those that the tiles of the test would give."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("city") / "raw"
    data = section(SHIPPED, "data", DataConfig)
    acquire.run(data, acquire.SampleConfig(seed=7, side_px=256), folder)
    return folder


@pytest.fixture(scope="module")
def settings():
    given = Settings.of(SHIPPED)
    preparing = replace(given.preprocess, workers=1)
    return replace(given, preprocess=preparing, evaluate=replace(given.evaluate, stride_px=32))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Function that puts a toy model with other facts into the registry; returns its file."""

    def make(**changes):
        torch.manual_seed(0)
        args = {"patch_size": 8, "img_size": 64}
        config = MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16, aux_heads=False)
        network = MoBaNet(config).eval()
        file = tmp_path / "registered.safetensors"
        save_model(file, network, replace(toy_facts(network.config), **changes))
        monkeypatch.setattr(
            rescoring, "fetch", lambda uri, name, folder, setting: (shutil.copy(file, folder / name), URI)
        )
        return file

    return make


@pytest.mark.system
def test_the_scores_are_those_of_inputs_with_the_heights_of_the_model(raw, settings, weights, tmp_path) -> None:
    file = weights(heights=RANGE, mlflow_run_id="e" * 32)  # no MLflow store is asked for this run
    facts = rescore(URI, raw, settings, tmp_path / "package")
    assert facts.heights == RANGE
    found = json.loads((tmp_path / "package/evaluation.json").read_text())
    tree = read_raw_tree(raw)
    split = datasets.split("sample", "sample")
    preprocess.make_store(settings.preprocess, split, tree, tmp_path / "own", heights=RANGE)
    expected = evaluate.run(settings.evaluate, tmp_path / "own", file, tmp_path / "reports", tracked=False).evaluation
    assert found["confusion"] == expected.confusion
    # comparable with a model that was trained with the heights of params.yaml
    preprocess.make_store(settings.preprocess, split, tree, tmp_path / "store")
    current = read_manifest(tmp_path / "store")
    assert found["protocol"]["raw_md5"] == current.raw_md5
    assert found["protocol"]["data_md5"] != current.data_md5
    with pytest.raises(StoreError, match="mobanet registry rescore"):
        evaluate.run(settings.evaluate, tmp_path / "store", file, tmp_path / "reports", tracked=False)
    assert digest(tmp_path / "package/model.safetensors") == digest(file)
    assert verify_statement(tmp_path / "package"), "the statement is about the new scores"
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def described() -> RawTree:
    """Raw tiles of the sample, without the files."""
    return RawTree(Path("raw"), "sample", datasets.dataset("sample"), {})


def test_bands_and_range_are_those_of_the_model() -> None:
    tree = described()
    facts = replace(
        toy_facts(MoBaNetConfig(image_bands=2)),
        bands=("blue", "red"),
        image_range=(10.0, 200.0),
        image_mean=(0.1, 0.2),
        image_std=(0.3, 0.4),
    )
    image = as_trained(tree, facts, URI).dataset.image
    assert (image.bands, image.band_numbers, image.range) == (("blue", "red"), (3, 1), (10.0, 200.0))
    assert (image.mean, image.std, image.files) == ((0.1, 0.2), (0.3, 0.4), tree.dataset.image.files)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("roof", "road")}, "the classes are impervious, building"),
        ({"bands": ("red", "green", "infrared")}, "the images have no band infrared"),
        ({"heights": replace(RANGE, relative_to="ground")}, "the DSM has absolute heights, but models:/city/1 needs"),
        ({"gsd_m": 1.0}, r"a pixel is 0\.\d+ m wide on the ground, but models:/city/1 was trained with 1 m"),
    ],
)
def test_raw_tiles_that_cannot_give_the_inputs_are_rejected_before_the_work(changes, words) -> None:
    facts = replace(toy_facts(MoBaNetConfig()), **changes)
    with pytest.raises(DataError, match=words):
        as_trained(described(), facts, URI)


def test_weights_that_are_not_signed_are_not_signed_anew(raw, settings, weights, tmp_path, monkeypatch) -> None:
    weights()
    asked = []

    def refuse(model, file, version, trust):
        asked.append((file.name, version, trust))
        raise TrustError("models:/city/3: no signature")

    monkeypatch.setattr(rescoring, "require_trusted", refuse)
    trust = TrustConfig(require_signature=True, public_key="key.pem")
    with pytest.raises(TrustError):
        rescore(URI, raw, replace(settings, trust=trust), tmp_path / "package")
    assert asked == [("model.safetensors", URI, trust)] and not (tmp_path / "package").exists()
