"""A training whose learning rate is far too high, by the step's command line and under `torchrun`."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pytest

from tests.e2e.toy_training import ToyTraining, torchrun

pytestmark = pytest.mark.system

SENTENCE = re.compile(
    r"error: training stopped at step (\d+): the (loss|gradient norm) of step \d+ is (nan|inf) "
    r"\(last finite gradient norm: \d\S*\); lower train.learning_rate, set train.max_gradient_norm, or check "
    r"model.weights, model.init and the value range of the images; the newest checkpoint \(step (\d+)\) is finite"
)


def toy(folder: Path, **runtime) -> ToyTraining:
    return ToyTraining(folder, {"train": {"learning_rate": 1e18}, "runtime": {"log_every_steps": 4, **runtime}})


def test_a_learning_rate_of_1e18_ends_with_exit_code_3_and_one_sentence_that_the_tracked_run_has_too(tmp_path) -> None:
    training, store = toy(tmp_path, tracking="mlflow"), f"sqlite:///{tmp_path}/mlflow.db"
    assert training.run("a", MLFLOW_TRACKING_URI=store) == 3
    (line,) = [line for line in training.log("a").splitlines() if line.startswith("error: ")]
    match = SENTENCE.fullmatch(line)
    assert match, line
    assert int(match[4]) < int(match[1]) <= 4
    assert "Traceback" not in training.log("a") and "best so far" not in training.log("a")
    assert not (tmp_path / "a/models").exists()
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", line.removeprefix("error: "))


def test_under_torchrun_both_ranks_print_the_sentence_and_end_with_exit_code_3(tmp_path) -> None:
    training = toy(tmp_path)
    assert training.run("a", torchrun(2)) != 0
    lines = [line for line in training.log("a").splitlines() if SENTENCE.fullmatch(line)]
    assert len(lines) >= 1 and len(set(lines)) == 1
    assert re.search(r"exitcode\s*:\s*3\b", training.log("a"))
