"""Figures in MLflow: success is reported only if MLflow has everything."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from components.common.tracking.run import open_run
from components.evaluate import outputs


@pytest.mark.parametrize("refused", [False, True])
def test_success_is_reported_only_if_mlflow_has_everything(mlflow_folder, monkeypatch, caplog, refused) -> None:
    import mlflow

    caplog.set_level("INFO", logger="components")
    with open_run("mlflow", experiment="city") as training:
        pass
    (mlflow_folder / outputs.REPORT).write_text("")
    monkeypatch.setattr(outputs, "OWNED", (outputs.REPORT, "missing.json") if refused else (outputs.REPORT,))
    monkeypatch.setattr(outputs, "comparable_metrics", lambda record: {"miou": 80.0})
    monkeypatch.setattr(outputs.Image, "open", lambda path: outputs.Image.new("RGB", (8, 8)))
    model = SimpleNamespace(step=3)
    record = SimpleNamespace(protocol=SimpleNamespace(model=model), headline=SimpleNamespace(per_class={}))
    outputs.send(training.id, mlflow_folder, record)
    assert mlflow.MlflowClient().get_run(training.id).data.metrics["test/miou"] == 80.0
    success = f"added scores and reports to MLflow run {training.id}"
    lack = f"MLflow run {training.id} lacks {mlflow_folder / 'missing.json'}"
    assert (success in caplog.text, lack in caplog.text) == (not refused, refused)
