"""`dvc repro` with the parameters as shipped: killed during training, started again, and its results."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import mlflow
import numpy as np
import psutil
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from components.common.data.store import map_tile
from tests.e2e.conftest import copy_project

pytestmark = pytest.mark.system

DEADLINE_S = 40 * 60
STEPS = ("acquire", "check", "preprocess", "train", "evaluate", "export", "register", "predict")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("repro"))


def kill_train_after_a_checkpoint(repro, root):
    """SIGKILL to the train process (not to DVC) as soon as its second checkpoint is on disk."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert repro.poll() is None, "dvc repro ended before training could be killed"
        steps = [p for p in root.glob("checkpoints/step-*.safetensors") if not p.name.startswith("step-00000000")]
        if steps:
            for child in psutil.Process(repro.pid).children(recursive=True):
                if "components.train" in " ".join(child.cmdline()) and "python" in child.name():
                    os.kill(child.pid, signal.SIGKILL)
                    return
        time.sleep(0.5)
    raise AssertionError("training made no checkpoint in time")


@pytest.fixture(scope="module")
def outputs(project):
    """What the killed and the second `dvc repro` printed."""
    log = project.root / "repro.log"
    with log.open("w") as file:
        repro = subprocess.Popen(["dvc", "repro"], cwd=project.root, env=project.env, stdout=file, stderr=file)
        kill_train_after_a_checkpoint(repro, project.root)
        assert repro.wait(timeout=600) != 0
    return log.read_text(), project.call("dvc", "repro", timeout=DEADLINE_S)


def test_a_killed_training_goes_on_from_its_last_checkpoint(outputs):
    first, second = outputs
    assert "failed to reproduce 'train'" in first
    assert second.returncode == 0, second.stderr
    assert "resuming from step" in second.stderr + second.stdout
    assert "Stage 'acquire' didn't change" in second.stderr + second.stdout


def test_fusion_reaches_75_on_the_test_tiles_with_a_frozen_backbone(project, outputs):
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert metrics["miou"] >= 75
    protocol = json.loads((project.root / "reports/evaluation.json").read_text())["protocol"]
    assert protocol["subset"] == "test" and protocol["ground_truth"] == "eroded"


def test_one_mlflow_run_with_no_step_twice_and_a_champion(project, outputs):
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == sorted(set(steps)) and run.info.status == "FINISHED"
    model = client.get_registered_model("mobanet")
    assert "champion" in model.aliases


def test_the_map_of_the_two_neighbouring_test_tiles_is_a_valid_geotiff_that_fits_their_labels(project, outputs):
    path = project.root / "maps/sample.tif"
    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid and not errors and not warnings
    labels = [project.root / f"data/store/{tile}.arrow" for tile in ("5_10", "5_11")]
    label_HW = np.hstack([map_tile(label).eroded_HW for label in labels])
    with rasterio.open(path) as file:
        classes_HW, place = file.read(1), file.transform
    with rasterio.open(project.root / "data/raw/2_Ortho_RGB/top_potsdam_5_10_RGB.tif") as image:
        assert place == image.transform
    assert classes_HW.shape == label_HW.shape == (1024, 2048)
    known = label_HW != 255
    assert (classes_HW[known] == label_HW[known]).mean() > 0.9
    summary = json.loads((project.root / "maps/sample.json").read_text())
    assert summary["seams"]["agreement"] > 0.9 and summary["sensors"]["image and DSM"] > 0.95


def test_nothing_runs_a_second_time(project, outputs):
    again = project.call("dvc", "repro", timeout=600)
    assert again.returncode == 0
    printed = again.stdout + again.stderr
    assert re.findall(r"Running stage '(\w+)'", printed) == ["weights"]  # checksums of weight files, in a second
    assert set(re.findall(r"Stage '(\w+)' didn't change", printed)) == set(STEPS)


def test_a_change_of_evaluate_runs_evaluate_and_what_follows_but_not_train(project, outputs):
    project.change_params({"evaluate": {"panel_px": 300}})
    status = project.call("dvc", "repro", "--dry").stdout
    assert "evaluate" in status and "Running stage 'evaluate'" in status
    assert "Running stage 'train'" not in status
