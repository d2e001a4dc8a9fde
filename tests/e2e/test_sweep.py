"""The sweep of docs/training.md, word for word but for the values: three queued experiments and their table."""

from __future__ import annotations

import sqlite3

import pytest

from tests.e2e.conftest import TINY, copy_project
from tests.repo.pages import commands

SWEEP = (
    "export MLFLOW_TRACKING_URI=",
    "dvc repro preprocess",
    "git add dvc.lock reports/data_check.json",
    "dvc exp run --queue --set-param train.learning_rate=5e-4,1e-3,2e-3 train",
    "dvc exp run --run-all",
    "dvc exp show ",
)
"""Beginnings of the commands."""

RATES = {"5e-05", "0.0001", "0.0002"}
"""The values of the test as DVC writes them. The first one is a string in YAML 1.1."""


@pytest.mark.system
def test_three_queued_learning_rates_give_a_table_of_three_rates_and_three_scores(tmp_path):
    page = [c.text for c in commands() if c.page == "docs/training.md" and c.text.startswith(SWEEP)]
    assert len(page) == len(SWEEP)
    script = "\n".join(page).replace("=5e-4,1e-3,2e-3 ", "=5e-5,1e-4,2e-4 ")
    project = copy_project(tmp_path / "project")
    project.change_params(TINY)
    project.env |= {"OMP_NUM_THREADS": "1"}
    project.env |= {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = project.call("bash", "-euc", script, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in row] for row in table]
    assert head == ["Experiment", "validation.expected_miou", "train.learning_rate"]
    scores = {rate: float(score) for name, score, rate in rows if "[" in name}  # the others are workspace and branch
    assert scores.keys() == RATES
    assert all(0 <= score <= 100 for score in scores.values())
    logs = "".join(path.read_text() for path in (project.root / ".dvc/tmp/exps/run").glob("*/*.out"))
    assert (logs.count("-m components.train\n"), logs.count("-m components.preprocess\n")) == (3, 0)
    with sqlite3.connect(project.root / "mlflow.db") as runs:
        logged = runs.execute("select value from params where key = 'train.learning_rate'").fetchall()
    assert {value for (value,) in logged} == RATES
