"""components/register/summary.py: the result as Kubeflow shows it."""

from __future__ import annotations

import pytest

from components.common.tracking import server
from components.register.promotion import Gate
from components.register.step import RegisterResult
from components.register.summary import as_markdown

GATES = (
    Gate("expected mIoU", "61.0", "60.0", "+1.0", "higher", True),
    Gate("IoU, car", "1.0", "9.0", "-8.0", "7.0 or more", False),
)


def result(gates=GATES, run_id="r1"):
    return RegisterResult("city", "2", True, False, "1", "version 1 stays the champion", gates, run_id)


@pytest.fixture(autouse=True)
def store(monkeypatch):
    monkeypatch.setattr(server, "run_page", lambda run_id: f"http://mlflow/#/experiments/1/runs/{run_id}")


def test_the_outcome_every_gate_and_the_mlflow_run_are_there():
    lines = as_markdown(result()).splitlines()
    assert lines[:3] == ["## city", "", "version 1 stays the champion."]
    assert "| expected mIoU | 61.0 | 60.0 | +1.0 | higher | ok |" in lines
    assert "| IoU, car | 1.0 | 9.0 | -8.0 | 7.0 or more | **failed** |" in lines
    assert lines[-1] == "MLflow run: [r1](http://mlflow/#/experiments/1/runs/r1)"


def test_without_gates_there_is_no_table_and_without_a_run_no_link():
    text = as_markdown(result(gates=(), run_id=None))
    assert "|" not in text and text.endswith("MLflow run: none\n")


def test_a_store_without_a_web_page_is_named(monkeypatch):
    monkeypatch.setattr(server, "run_page", lambda run_id: None)
    monkeypatch.setattr(server, "address", lambda: "sqlite:///mlflow.db")
    assert as_markdown(result()).endswith("MLflow run: `r1` in `sqlite:///mlflow.db`\n")
