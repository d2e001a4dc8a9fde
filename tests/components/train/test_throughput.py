"""The logged speed and time left, against a clock that the test moves."""

from __future__ import annotations

import re

import pytest
import torch

from components.train import loop
from components.train.optim import StepFigures
from components.train.step import run
from components.train.stopwatch import Stopwatch
from tests.components.train.conftest import TRAIN

STEP_S, BATCH, STEPS = 0.5, 2, 200
LINE = re.compile(r"step +(\d+)/200 .* (\S+) images/s  (\S+) min left")


VALIDATION = TRAIN["validation"] | {"every_steps": 30, "pictures": 0}


class Killed(Exception):
    """Stands for kill -9."""


@pytest.fixture
def logged(toy_store, train_config, model_params, runtime, tmp_path, monkeypatch, caplog):
    """Train to a step, or to the end, and return (step, images/s, minutes left) of every log line."""
    now = 0.0

    def moved(seconds: float) -> None:
        nonlocal now
        now += seconds

    def call(until: int = STEPS, first_step_s: float = 20.0) -> list[tuple[int, float, float]]:
        began: list[int] = []

        def step(session, inputs, number):
            if number > until:
                raise Killed
            moved(STEP_S if began else first_step_s)  # compiling is a part of the first step
            began.append(number)
            return StepFigures(torch.tensor(1.0), torch.tensor(1.0))

        def validate(session, progress):
            moved(41.0)
            session.checkpoints.save_candidate(session.network, progress.step)
            progress.validations.append({"step": progress.step, "miou_fused": 1.0, "expected_miou": 1.0})

        def save(session, progress):
            moved(3.0)
            save_(session, progress)

        save_ = loop._save
        with monkeypatch.context() as patched:
            patched.setattr(loop, "Stopwatch", lambda: Stopwatch(lambda: now))
            for name, replacement in (("_step", step), ("_validate", validate), ("_save", save)):
                patched.setattr(loop, name, replacement)
            caplog.set_level("INFO")
            config = train_config(steps=STEPS, batch_size=BATCH, validation=VALIDATION)
            intervals = runtime(log_every_steps=7, checkpoint_every_steps=50)
            try:
                run(config, model_params(), intervals, toy_store, tmp_path / "models", tmp_path / "checkpoints")
            except Killed:
                pass
        matches = [LINE.match(record.getMessage()) for record in caplog.records]
        caplog.clear()
        return [(int(m[1]), float(m[2]), float(m[3])) for m in matches if m]

    return call


def assert_right(lines: list[tuple[int, float, float]]) -> None:
    for step, images_per_s, left_min in lines:
        assert images_per_s == pytest.approx(BATCH / STEP_S, rel=0.05)
        assert left_min == pytest.approx((STEPS - step) * STEP_S / 60, rel=0.05, abs=0.05)


def test_validations_checkpoints_and_start_up_do_not_count(logged):
    lines = logged()
    assert [step for step, _, _ in lines] == [*range(7, STEPS, 7), STEPS]
    assert_right(lines)


def test_after_a_resume_the_first_interval_is_right(logged):
    logged(until=103)
    lines = logged()
    assert lines[0][0] == 105  # from step 101
    assert_right(lines)
