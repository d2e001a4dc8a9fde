from __future__ import annotations

import dataclasses
import json

import pytest
from torch.optim import AdamW

from components.common.inference.modelfile import load_model
from pipeline.ablation import trainings
from pipeline.ablation.trainings import run_jobs, state


class Killed(Exception):
    """Stands in for kill -9."""


@pytest.fixture
def trained(monkeypatch):
    """Seeds and networks of the trainings, in order."""
    seen, train = [], trainings.train

    def counting(config, model, *rest):
        seen.append((config.seed, model.dgfm))
        return train(config, model, *rest)

    monkeypatch.setattr(trainings, "train", counting)
    return seen


def test_every_variant_is_trained_once_with_every_seed_and_a_second_call_trains_nothing(small, trained):
    plan = small(seeds=(1,))
    first = run_jobs(plan.jobs, plan.setting)
    assert trained == [(1, True), (1, False)]
    more = small(seeds=(1, 2))
    found = run_jobs(more.jobs, more.setting)
    assert trained[2:] == [(2, True), (2, False)]
    assert found[::2] == first
    assert run_jobs(more.jobs, more.setting) == found and len(trained) == 4
    assert [(r.variant, r.seed) for r in found[:3]] == [("with gate", 1), ("with gate", 2), ("without gate", 1)]
    assert [("gate_mean" in r.figures["val"]) for r in found] == [True, True, False, False]
    assert all(r.figures.keys() == {"val", "test"} for r in found)


def test_what_a_variant_changes_is_in_the_trained_network(small):
    plan = small(seeds=(1,))
    run_jobs(plan.jobs, plan.setting)
    gates = [load_model(job.folder / "models/best.safetensors")[0].config.dgfm for job in plan.jobs]
    assert gates == [True, False]


def test_an_interrupted_training_goes_on_from_its_checkpoint(small, trained, monkeypatch):
    plan, step, seen = small(seeds=(1,)), AdamW.step, []

    def dying(*given, **named):
        seen.append(len(trained))
        if len(seen) == 4:
            raise Killed
        return step(*given, **named)

    monkeypatch.setattr(AdamW, "step", dying)
    with pytest.raises(Killed):
        run_jobs(plan.jobs, plan.setting)
    assert [state(job, plan.setting) for job in plan.jobs] == ["done", "interrupted, will resume"]
    run_jobs(plan.jobs, plan.setting)
    assert seen == [1, 1, 2, 2, 3]  # the training that each step belongs to
    assert [state(job, plan.setting) for job in plan.jobs] == ["done", "done"]
    assert not list(plan.jobs[1].folder.glob("checkpoints"))


def test_another_protocol_measures_the_same_weights_again(small, trained):
    plan = small(seeds=(1,))
    before = run_jobs(plan.jobs, plan.setting)
    finer = dataclasses.replace(plan.setting, evaluate=dataclasses.replace(plan.setting.evaluate, window_px=64))
    assert state(plan.jobs[0], finer) == "trained, not measured"
    after = run_jobs(plan.jobs, finer)
    assert len(trained) == 2
    assert [r.window_px for r in before + after] == [32, 32, 64, 64]
    assert before[0].figures != after[0].figures


def test_trainings_at_once_find_what_they_find_one_after_the_other(small, tmp_path):
    together, alone = small(seeds=(1,), workers=2), small(seeds=(1,))
    found = run_jobs(together.jobs, together.setting)
    for job in together.jobs:
        assert "step     2/2" in (job.folder / "log.txt").read_text()
        job.folder.rename(tmp_path / job.folder.name)
    assert run_jobs(alone.jobs, alone.setting) == found


def test_a_result_names_the_commit_that_trained_it(small, monkeypatch):
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    plan = small(seeds=(1,))
    run_jobs(plan.jobs, plan.setting)
    monkeypatch.setenv("GIT_COMMIT", "b" * 40)
    assert {r.git_commit for r in run_jobs(plan.jobs, plan.setting)} == {"a" * 40}
    assert json.loads((plan.jobs[0].folder / "result.json").read_text())["git_commit"] == "a" * 40
