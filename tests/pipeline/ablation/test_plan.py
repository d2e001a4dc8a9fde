from __future__ import annotations

import dataclasses
import json
from pathlib import Path

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
        *("fusion.png", "sensors.png", "contributions.png", "failure.png", "gates.png"),
    }
    document = json.loads((plan.folder / "results.json").read_text())
    assert document["chosen"] == results.chosen and len(document["runs"]) == 2
    assert document["protocol"]["data_md5"] == Store(plan.setting.store).data_md5
    assert document["protocol"]["seeds"] == [1]
    before = (plan.folder / "table.md").read_bytes()
    run_study(plan)
    assert (plan.folder / "table.md").read_bytes() == before


@pytest.fixture
def store_with(toy_store, tmp_path):
    """A toy store with other entries of tiles."""

    def make(change) -> Path:
        manifest = Store(toy_store).manifest
        (tmp_path / "store").mkdir()
        kept = tuple(new for entry in manifest.tiles if (new := change(entry)))
        write_manifest(tmp_path / "store", dataclasses.replace(manifest, tiles=kept))
        return tmp_path / "store"

    return make


def refusal(store, studies, params, tmp_path) -> str:
    with pytest.raises(DataError) as caught:
        make_plan("small", studies(), params, (1,), store, tmp_path / "out", 1)
    return str(caught.value)


def test_a_split_without_test_tiles_is_refused_before_anything_is_trained(store_with, tmp_path, params, studies):
    store = store_with(lambda entry: None if entry.subset == "test" else entry)
    assert "the split sample has no test tile with image and DSM" in refusal(store, studies, params, tmp_path)


def test_a_subset_without_a_tile_of_both_sensors_is_refused(store_with, tmp_path, params, studies):
    store = store_with(lambda e: dataclasses.replace(e, sensors=("rgb",)) if e.subset == "val" else e)
    assert "the split sample has no val tile with image and DSM" in refusal(store, studies, params, tmp_path)


def test_networks_of_one_sensor_are_scored_with_it_and_compared_with_the_others(small):
    variants = {
        "both": {},
        "image alone": {"model.modalities": ["rgb"], "train.masking.paired": 0.0},
        "DSM alone": {"model.modalities": ["dsm"], "train.masking.paired": 0.0},
    }
    plan = small(seeds=(1,), content={"small": {"about": "One sensor.", "variants": variants}})
    results = run_study(plan)
    document = json.loads((plan.folder / "results.json").read_text())
    assert results.chosen == "both"
    assert document["recipes"]["DSM alone"] == {"modalities": ["dsm"], "steps": 2, "passes": 4}
    raw = {run["variant"]: run["figures"] for run in document["runs"]}
    for share in document["shares"]:
        assert share["miou"] == raw["both"][share["subset"]][f"miou_{share['sensor']}"]
        assert share["dedicated_miou"] == raw[share["dedicated"]][share["subset"]]["miou"]
        assert share["share"] == share["miou"] / share["dedicated_miou"]
    assert [(s["subset"], s["dedicated"]) for s in document["shares"]] == [
        (subset, name) for subset in ("val", "test") for name in ("image alone", "DSM alone")
    ]
    assert "- both: with the image " in (plan.folder / "table.md").read_text()
