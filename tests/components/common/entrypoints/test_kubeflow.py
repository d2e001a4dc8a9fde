"""components/common/entrypoints/kubeflow.py: the environment of a task, and how it reports errors."""

from __future__ import annotations

import json
import os

import pytest

from components.common.entrypoints.kubeflow import (
    PipelineRun,
    finite,
    hand_over,
    parameters,
    read_run,
    require_version,
    task,
    write_run,
)
from components.common.errors import DataError, ParamsError
from components.export.config import ExportConfig


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("GIT_COMMIT", "MLFLOW_RUN_CONTEXT", "MOBANET_LOGS"):
        monkeypatch.setenv(name, "")  # monkeypatch restores what the task sets
        monkeypatch.delenv(name)


def test_a_section_comes_as_json_and_is_checked():
    formats = {"formats": ["onnx"], "required": [], "outputs": ["logits"], "signing_key": None}
    section = formats | {"opset": 20, "tolerance": 1, "max_changed": 0.01, "max_changed_reduced": 0.2}
    assert parameters(ExportConfig, "export", json.dumps(section)).tolerance == 1.0
    with pytest.raises(ParamsError, match=r"^export\.opset is 'x'"):
        parameters(ExportConfig, "export", json.dumps(section | {"opset": "x"}))


def test_a_task_knows_its_commit_and_the_run_it_belongs_to(tmp_path):
    write_run(tmp_path, PipelineRun("r1", {"kubeflow_run": "r1"}))
    with task(str(tmp_path), "c0ffee") as folder:
        assert folder == tmp_path
        assert os.environ["GIT_COMMIT"] == "c0ffee"
        assert json.loads(os.environ["MLFLOW_RUN_CONTEXT"]) == read_run(tmp_path).tags == {"kubeflow_run": "r1"}


def test_the_runs_of_a_task_name_its_image(tmp_path, monkeypatch):
    write_run(tmp_path, PipelineRun("r1", {"kubeflow_run": "r1"}))
    monkeypatch.setenv("MOBANET_IMAGE", "registry/mobanet@sha256:12")
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", "{}")
    with task(str(tmp_path)):
        tags = json.loads(os.environ["MLFLOW_RUN_CONTEXT"])
    assert tags == {"kubeflow_run": "r1", "image": "registry/mobanet@sha256:12"}


def test_the_commit_of_an_image_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_COMMIT", "of the image")
    with task(str(tmp_path), "c0ffee"):
        assert os.environ["GIT_COMMIT"] == "of the image"


def test_a_workspace_without_a_run_gives_no_tags(tmp_path):
    assert read_run(tmp_path) == PipelineRun()
    with task(str(tmp_path)):
        assert "MLFLOW_RUN_CONTEXT" not in os.environ


def test_a_run_that_is_not_tracked_has_a_name_and_gives_no_tags(tmp_path):
    write_run(tmp_path, PipelineRun("r1"))
    with task(str(tmp_path)):
        assert read_run(tmp_path).name == "r1" and "MLFLOW_RUN_CONTEXT" not in os.environ


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("tile 1 is missing"), 2, "error: tile 1 is missing\n"),
        (PermissionError(13, "Permission denied", "/store/x"), 2, "error: /store/x: Permission denied\n"),
        (SystemExit(75), 75, ""),
    ],
)
def test_what_a_user_can_fix_is_one_sentence_and_an_exit_code(tmp_path, capsys, error, code, sentence):
    with pytest.raises(SystemExit) as stop, task(str(tmp_path)):
        raise error
    assert (stop.value.code, capsys.readouterr().err) == (code, sentence)


def test_a_bug_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), task(str(tmp_path)):
        raise ZeroDivisionError


def test_files_are_copied_to_where_artifacts_are_collected(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    assert hand_over(tmp_path, {"a.json": str(tmp_path / "artifact")}) == tmp_path
    assert (tmp_path / "artifact").read_text() == "{}"


def test_numbers_that_kubeflow_cannot_show_are_left_out():
    assert finite({"a": 1.0, "b": None, "c": float("nan"), "d": float("inf")}) == {"a": 1.0}


def test_another_data_version_than_the_one_asked_for_is_refused():
    require_version("abc", "abc")
    require_version("abc", "")
    with pytest.raises(DataError, match="data version abc, but data_md5 asks for def"):
        require_version("abc", "def")
