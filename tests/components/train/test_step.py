from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal

import pytest
import torch

from components.common.data.store import Store
from components.common.errors import ParamsError, StoreError
from components.common.inference.modelfile import load_model
from components.train import loop, validation
from components.train.step import run
from tests.components.train.conftest import TRAIN

VALIDATION = TRAIN["validation"] | {"pictures": 0}


class Killed(Exception):
    """Stands for kill -9: nothing gets to tidy up."""


@pytest.fixture
def train(tmp_path, toy_store, train_config, model_params, runtime):
    def call(name="a", store=toy_store, model=None, changes=None, **train):
        folder = tmp_path / name
        return run(
            train_config(**train),
            model or model_params(),
            runtime(**changes or {}),
            store,
            folder / "models",
            folder / "checkpoints",
        )

    return call


def weights(tmp_path, name):
    network, _ = load_model(tmp_path / name / "models" / "best.safetensors")
    return network.state_dict()


def test_a_run_leaves_a_model_its_facts_and_its_history(train, tmp_path, toy_store):
    result = train()
    _, facts = load_model(tmp_path / "a/models/best.safetensors")
    assert facts.step == result.step and facts.step in (4, 8)
    assert facts.data_md5 == Store(toy_store).data_md5
    assert facts.window_px == 64 and facts.bands == ("red", "green", "blue")
    assert facts.validation == result.validation
    assert facts.temperature.keys() == {"rgb+dsm", "rgb", "dsm"}
    selected = json.loads((tmp_path / "a/models/selected.json").read_text())
    assert selected == {"validation": {"step": facts.step, **facts.validation}}
    rows = list(csv.DictReader((tmp_path / "a/models/validation.csv").open()))
    assert [row["step"] for row in rows] == ["4", "8"]
    assert [r["step"] for r in csv.DictReader((tmp_path / "a/models/training.csv").open())] == ["2", "4", "6", "8"]
    assert json.loads((tmp_path / "a/models/run.json").read_text()) == {"mlflow_run_id": None}


def test_training_lowers_the_loss(train, tmp_path):
    train(steps=40, warmup_steps=4, validation=VALIDATION | {"every_steps": 40}, learning_rate=5e-3)
    losses = [float(r["loss"]) for r in csv.DictReader((tmp_path / "a/models/training.csv").open())]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


COPIES = {"paired": 2.0, "distillation": 0.5, "schedule": [0.25, 0.5]}
SINGLE = {"missing": "excluded", "batch_norm": "per-condition"}


@pytest.mark.parametrize(
    ("killed_at", "masking", "options"), [(1, {}, {}), (5, {}, {}), (8, {}, {}), (6, COPIES, SINGLE)]
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(
    train, model_params, tmp_path, monkeypatch, killed_at, masking, options
):
    train = functools.partial(train, model=model_params(**options), masking=TRAIN["masking"] | masking)
    train("whole")
    step = loop._step

    def dying(session, batch, number):
        if number == killed_at:
            raise Killed
        return step(session, batch, number)

    monkeypatch.setattr(loop, "_step", dying)
    with pytest.raises(Killed):
        train("killed")
    seen = []
    monkeypatch.setattr(
        loop, "_step", lambda session, batch, number: seen.append(number) or step(session, batch, number)
    )
    train("killed")
    assert seen[0] == max(1, (killed_at - 1) // 2 * 2 + 1)  # a checkpoint every second step
    whole, resumed = weights(tmp_path, "whole"), weights(tmp_path, "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for file in ("training.csv", "validation.csv"):
        assert (tmp_path / "whole/models" / file).read_text() == (tmp_path / "killed/models" / file).read_text()


def test_a_run_is_not_gone_on_with_under_other_parameters(train, monkeypatch, tmp_path):
    step = loop._step

    def dying(session, batch, number):
        if number == 6:
            raise Killed
        return step(session, batch, number)

    monkeypatch.setattr(loop, "_step", dying)
    with pytest.raises(Killed):
        train()
    with pytest.raises(ParamsError, match=r"interrupted at step 4 had train.learning_rate = 0.002, now it is 0.001"):
        train(learning_rate=1e-3)
    shutil.rmtree(tmp_path / "a/checkpoints")
    monkeypatch.setattr(loop, "_step", step)
    assert train(learning_rate=1e-3).step in (4, 8)
    assert train(learning_rate=5e-4).step in (4, 8)  # the one before is finished


def test_sigterm_ends_the_run_after_the_step_under_way_and_nothing_is_lost(train, monkeypatch, tmp_path):
    train("whole")
    step = loop._step

    def terminated(session, batch, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(session, batch, number)

    monkeypatch.setattr(loop, "_step", terminated)
    with pytest.raises(SystemExit) as stopped:
        train("stopped")
    assert stopped.value.code == 75
    seen = []
    monkeypatch.setattr(
        loop, "_step", lambda session, batch, number: seen.append(number) or step(session, batch, number)
    )
    train("stopped")
    assert seen[0] == 4
    whole, resumed = weights(tmp_path, "whole"), weights(tmp_path, "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for file in ("training.csv", "validation.csv"):
        assert (tmp_path / "whole/models" / file).read_text() == (tmp_path / "stopped/models" / file).read_text()


def test_sigterm_in_a_validation_ends_the_run_and_the_validation_is_made_up_for(train, monkeypatch, tmp_path):
    train("whole")
    look = validation.confusions

    def terminated(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return look(*args, **options)

    monkeypatch.setattr(validation, "confusions", terminated)
    with pytest.raises(SystemExit) as stopped:
        train("stopped")
    assert stopped.value.code == 75
    monkeypatch.setattr(validation, "confusions", look)
    train("stopped")
    for file in ("training.csv", "validation.csv"):
        assert (tmp_path / "whole/models" / file).read_text() == (tmp_path / "stopped/models" / file).read_text()


def test_checkpoints_are_written_by_time_too(train, tmp_path, runtime, monkeypatch):
    clock = iter(range(0, 10**6, 45))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saved, save = [], loop._save

    def noting(session, progress):
        saved.append(progress.step)
        save(session, progress)

    monkeypatch.setattr(loop, "_save", noting)
    train(changes={"checkpoint_every_steps": 100, "checkpoint_every_minutes": 1.0, "log_every_steps": 100}, steps=8)
    assert {2, 3} & set(saved)


def test_what_gets_no_gradient_is_refused_before_the_first_step(train, tmp_path):
    with pytest.raises(ParamsError, match=r"model.aux_heads: \d+ trainable weights would get no gradient"):
        train(aux_weight=0.0)
    assert not (tmp_path / "a/checkpoints").exists()


def test_a_finished_run_that_is_run_again_starts_anew_with_the_same_result(train, tmp_path):
    train()
    first = weights(tmp_path, "a")
    train()
    assert all(torch.equal(first[name], again) for name, again in weights(tmp_path, "a").items())


def test_test_tiles_are_never_opened(train, toy_store, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(toy_store, store)
    for entry in Store(store).manifest.subset("test"):
        (store / entry.file).unlink()
    assert train(store=store).step in (4, 8)


def test_a_wrong_network_is_a_parameter_error(train, model_params):
    with pytest.raises(ParamsError, match=r"model\.backbone is 'vit_nonsense'"):
        train(model=model_params(backbone="vit_nonsense"))


def test_a_missing_store_says_which_step_to_run(train, tmp_path):
    with pytest.raises(StoreError, match="run the preprocess step first"):
        train(store=tmp_path / "nowhere")


def test_a_failed_run_leaves_the_earlier_model(train, tmp_path, monkeypatch):
    train()
    before = (tmp_path / "a/models/best.safetensors").read_bytes()
    monkeypatch.setattr(loop, "_step", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train()
    assert (tmp_path / "a/models/best.safetensors").read_bytes() == before


@pytest.mark.parametrize("modalities", [("rgb",), ("dsm",)])
def test_a_single_modality_baseline_trains(train, model_params, modalities):
    assert train(model=model_params(modalities=modalities)).step in (4, 8)
