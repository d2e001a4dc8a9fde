"""Corrupted and hostile files are refused with a sentence, and nothing in them is run."""

from __future__ import annotations

import resource

import pytest
import torch

from components.common.errors import MobanetError
from components.common.predictors.model_checks import verify_model
from components.common.predictors.models import open_model
from tests.components.common.predictors.hostile import CANARY, saved_pickle
from tests.components.common.predictors.hostile_graphs import ONNX, external
from tests.components.common.predictors.hostile_programs import PT2
from tests.components.common.predictors.hostile_weights import SAFETENSORS

CPU = torch.device("cpu")
MOST_KIB = 1 << 20

CASES = [
    (ending, name, change)
    for ending, changes in {"safetensors": SAFETENSORS, "onnx": ONNX, "pt2": PT2}.items()
    for name, change in changes.items()
]


@pytest.fixture(scope="module")
def whole(toy_files):
    return {ending: (toy_files / f"model.{ending}").read_bytes() for ending in ("safetensors", "onnx", "pt2")}


def refusal(call):
    with pytest.raises(MobanetError) as error:
        call()
    sentence = str(error.value)
    assert error.value.exit_code == 2 and "\n" not in sentence and len(sentence) < 700
    return sentence


def opened(path):
    with open_model(str(path), CPU):
        pass


def test_there_are_more_than_a_hundred():
    assert len({(ending, name) for ending, name, _ in CASES}) == len(CASES) > 100


@pytest.mark.parametrize(("ending", "name", "change"), CASES, ids=[f"{ending}-{name}" for ending, name, _ in CASES])
def test_a_hostile_file_is_refused_and_not_run(tmp_path, whole, ending, name, change):
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(change(whole[ending]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sentences = [refusal(lambda: verify_model(path, lambda check: None)), refusal(lambda: opened(path))]
    assert all(path.name in sentence for sentence in sentences) and sentences[0] == sentences[1]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB
    assert not CANARY.exists()


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "pkl"])
def test_a_pickle_is_refused_by_its_ending(tmp_path, ending):
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(saved_pickle(b""))
    assert "not a model that predict can open" in refusal(lambda: opened(path))
    assert "no model of this project" in refusal(lambda: verify_model(path, lambda check: None))
    assert not CANARY.exists()


def test_weights_that_are_a_link_are_refused(tmp_path, whole):
    path, secret = tmp_path / "bad.onnx", tmp_path / "secret"
    secret.write_bytes(bytes(10_000))
    path.write_bytes(external("bad.onnx.data")(whole["onnx"]))
    (tmp_path / "bad.onnx.data").symlink_to(secret)
    assert "bad.onnx.data is no file" in refusal(lambda: opened(path))


def test_the_canary_would_sing(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(saved_pickle(b""))
    torch.load(path, weights_only=False)
    assert CANARY.exists()
    CANARY.unlink()
