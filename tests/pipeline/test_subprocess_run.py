"""`mobanet pipeline run --runner subprocess`: the graph from its first to its last task, and one that fails."""

from __future__ import annotations

import json

import mlflow
import pytest

from tests.e2e.conftest import TINY, copy_project

pytestmark = pytest.mark.system

RUN = ("python", "-m", "pipeline", "pipeline", "run", "--runner", "subprocess")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("kubeflow"))
    project.change_params(TINY)
    project.env |= {"TMPDIR": str(tmp_path_factory.mktemp("tmp")), "OMP_NUM_THREADS": "1"}
    return project


@pytest.fixture(scope="module")
def ran(project):
    done = project.call(*RUN)
    assert done.returncode == 0, done.stderr[-6000:]
    return project, done


def artifact(project, task, name):
    (found,) = project.root.glob(f"reports/kubeflow/mobanet-*/{task}/{name}")
    return found


def test_every_task_leaves_its_artifacts_and_large_data_stays_on_the_workspace(ran):
    project, _ = ran
    assert json.loads(artifact(project, "preprocess", "store").read_text())["dataset"] == "sample"
    assert json.loads(artifact(project, "evaluate", "evaluation").read_text())["protocol"]["subset"] == "test"
    assert artifact(project, "evaluate", "report").read_text().startswith("<!doctype html>")
    assert artifact(project, "export", "package/model.onnx").stat().st_size > 0
    assert artifact(project, "predict", "map").read_bytes()[:2] == b"II"
    assert artifact(project, "predict", "page").read_text().startswith("<!doctype html>")
    assert not list(project.root.rglob("*.arrow"))


def test_the_workspace_is_gone_afterwards(ran):
    project, done = ran
    assert "the pipeline run ended: SUCCEEDED; MLflow runs closed now: none" in done.stderr
    assert not list(project.root.glob("data")) and "mobanet-workspace" not in str(list(project.root.iterdir()))


def test_mlflow_has_one_run_that_names_the_run_of_the_pipeline_and_a_champion(ran):
    project, _ = ran
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "mobanet"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["kubeflow_run"]
    assert {"val/miou_fused", "test/miou"} <= run.data.metrics.keys()
    before, after = (artifact(project, task, "summary").read_text() for task in ("register", "register-2"))
    assert run.info.run_id in before and "version 1 of mobanet is not promoted (promotion was not requested)" in before
    assert run.info.run_id in after and "version 1 of mobanet is the champion now; previous champion: none" in after


def test_the_tiles_were_preprocessed_in_shards(ran):
    project, done = ran
    assert len(list(project.root.glob("reports/kubeflow/mobanet-*/for-loop-*/preprocess-shard"))) == 4
    assert "10 of 10 tiles are finished already" in done.stderr


def test_the_result_alone_is_on_stdout(ran):
    assert ran[1].stdout == ""


def test_a_failing_step_is_named_and_the_exit_handler_runs(project):
    data = {"source": "folder", "dataset": "potsdam", "split": "official", "path": "/nowhere"}
    before = (project.root / "params.yaml").read_text()
    project.change_params({"data": data})
    done = project.call(*RUN, "--out", "elsewhere")
    (project.root / "params.yaml").write_text(before)
    assert done.returncode == 2
    assert "error: /nowhere" in done.stderr, "the step's own sentence"
    assert "the pipeline run ended: FAILED" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the step acquire failed, see its log above")
