"""pipeline/lifetime.py: the work of the first and the last task of a run."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from components.common.entrypoints.kubeflow import PipelineRun, read_run
from components.common.errors import ClusterError, TrackingError
from components.common.kubernetes.launch import TRAINJOB
from pipeline import lifetime
from pipeline.lifetime import start, stop

TRACKED, UNTRACKED = {"runtime": '{"tracking": "mlflow"}'}, {"runtime": '{"tracking": "none"}'}


@pytest.fixture
def ended(monkeypatch):
    calls = []
    monkeypatch.setattr(lifetime, "end_runs", lambda tags, status: calls.append((tags, status)) or ("m1",))
    return calls


@pytest.mark.parametrize(
    ("state", "status"), [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("CANCELLED", "FAILED")]
)
def test_the_end_closes_what_was_lost_and_empties_the_workspace(tmp_path, ended, caplog, state, status):
    caplog.set_level(logging.INFO)
    start(tmp_path, "r1", TRACKED)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/tile.arrow").write_text("pixels")
    stop(tmp_path, state)
    assert ended == [({"kubeflow_run": "r1"}, status)]
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())
    assert f"the pipeline run ended: {state}; MLflow runs closed now: m1" in caplog.text


def test_a_retry_after_mlflow_was_away_still_knows_what_to_close(tmp_path, monkeypatch, ended):
    def away(tags, status):
        raise TrackingError("no answer")

    start(tmp_path, "r1", TRACKED)
    with monkeypatch.context() as patch, pytest.raises(TrackingError):
        patch.setattr(lifetime, "end_runs", away)
        stop(tmp_path, "FAILED")
    stop(tmp_path, "FAILED")
    assert ended == [({"kubeflow_run": "r1"}, "FAILED")]


def test_an_untracked_run_needs_no_mlflow(tmp_path, ended):
    start(tmp_path / "new", "r1", UNTRACKED)
    assert read_run(tmp_path / "new") == PipelineRun("r1")
    stop(tmp_path / "new", "SUCCEEDED")
    assert ended == []


def test_a_training_on_several_nodes_is_ended_before_its_workspace_is_emptied(tmp_path, ended, monkeypatch):
    from components.common.kubernetes import client as cluster

    seen = []

    class Here:
        def delete(self, name):
            seen.append((name, (tmp_path / "checkpoints").is_dir()))

    monkeypatch.setattr(cluster.Cluster, "here", Here)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / TRAINJOB).write_text('{"name": "mobanet-1"}')
    stop(tmp_path, "FAILED")
    assert seen == [("mobanet-1", True)] and not list(tmp_path.iterdir())


def test_a_trainjob_that_cannot_be_deleted_leaves_the_workspace_as_it_is(tmp_path, ended, monkeypatch):
    from components.common.kubernetes import client as cluster

    def forbidden(name):
        raise ClusterError("cannot delete")

    monkeypatch.setattr(cluster.Cluster, "here", lambda: SimpleNamespace(delete=forbidden))
    (tmp_path / TRAINJOB).write_text('{"name": "mobanet-1"}')
    with pytest.raises(ClusterError):
        stop(tmp_path, "FAILED")
    assert (tmp_path / TRAINJOB).is_file(), "the retry of the last task tries again"


def test_without_a_trainjob_the_end_knows_no_cluster(tmp_path):
    code = "import sys; from pathlib import Path; from pipeline.lifetime import stop; stop(Path(sys.argv[1]), 'FAILED')"
    code += "; assert not {'kubernetes', 'kubeflow'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_the_end_lives_with_a_run_that_never_began(tmp_path, ended):
    stop(tmp_path / "nowhere", "FAILED")
    assert ended == []
