from __future__ import annotations

import dataclasses
import json

import pytest

from components.common.data.store import Store, write_manifest
from components.common.errors import DataError
from pipeline.ablation.plan import plan as make_plan
from pipeline.ablation.plan import run_study


@pytest.fixture
def tracked(small, tmp_path, monkeypatch):
    """A plan that tracks in an empty folder, and a client to inspect it."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    plan = small(seeds=(1,))
    runtime = dataclasses.replace(plan.setting.runtime, tracking="mlflow")
    plan = dataclasses.replace(plan, setting=dataclasses.replace(plan.setting, runtime=runtime))
    return plan, MlflowClient


def test_trainings_are_children_of_the_study_in_mlflow_and_stay_so(tracked):
    plan, client = tracked
    for _ in range(2):
        run_study(plan)
    experiment = client().get_experiment_by_name("mobanet-ablation")
    runs = {run.info.run_name: run for run in client().search_runs([experiment.experiment_id])}
    assert runs.keys() == {"small", "with gate, seed 1", "without gate, seed 1"}
    parent = runs.pop("small")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert runs["with gate, seed 1"].data.params["train.masking.share"] == "1.0"
    assert {"ablation/val/miou", "ablation/test/gate_mean_4"} <= runs["with gate, seed 1"].data.metrics.keys()
    assert json.loads(parent.data.tags["variants"]) == plan.study.variants
    assert parent.data.tags["chosen"] in plan.study.variants
    files = {file.path for file in client().list_artifacts(parent.info.run_id)}
    assert {"table.md", "table.tex", "results.json", "fusion.png"} <= files


def test_a_study_leaves_tables_pictures_and_every_figure(small):
    plan = small(seeds=(1,))
    results = run_study(plan)
    assert {path.name for path in plan.folder.iterdir()} == {
        *("table.md", "table.tex", "results.json"),
        *("fusion.png", "contributions.png", "failure.png", "gates.png"),
    }
    document = json.loads((plan.folder / "results.json").read_text())
    assert document["chosen"] == results.chosen and len(document["runs"]) == 2
    assert document["protocol"]["data_md5"] == Store(plan.setting.store).data_md5
    assert document["protocol"]["seeds"] == [1]
    before = (plan.folder / "table.md").read_bytes()
    run_study(plan)
    assert (plan.folder / "table.md").read_bytes() == before


def test_a_split_without_test_tiles_is_refused_before_anything_is_trained(toy_store, tmp_path, params, studies):
    manifest = Store(toy_store).manifest
    kept = tuple(entry for entry in manifest.tiles if entry.subset != "test")
    (tmp_path / "store").mkdir()
    write_manifest(tmp_path / "store", dataclasses.replace(manifest, tiles=kept))
    with pytest.raises(DataError, match="the split sample has no test tile"):
        make_plan("small", studies(), params, (1,), tmp_path / "store", tmp_path / "out", 1)
