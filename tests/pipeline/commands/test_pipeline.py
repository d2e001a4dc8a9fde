"""`mobanet pipeline`: output files, printed text, rejected input."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from components.common.errors import ParamsError
from pipeline.cli import app, main
from pipeline.local import COLOURS, _sentence

runner = CliRunner()


def call(*arguments):
    return runner.invoke(app, ["pipeline", *map(str, arguments)], catch_exceptions=False)


def images(path):
    spec = next(yaml.safe_load_all(path.read_text()))
    return {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}


def test_compile_writes_one_file_with_the_image_that_was_asked_for(tmp_path, monkeypatch):
    out = tmp_path / "mobanet.yaml"
    assert call("compile", "-o", out).stdout == ""
    assert images(out) == {"mobanet:latest"}
    monkeypatch.setenv("MOBANET_IMAGE", "from/environment@sha256:1")
    call("compile", "-o", out)
    assert images(out) == {"from/environment@sha256:1"}
    call("compile", "-o", out, "--image", "from/option@sha256:2")
    assert images(out) == {"from/option@sha256:2"}


def test_the_storage_class_of_the_workspace_can_be_chosen(tmp_path):
    call("compile", "-o", tmp_path / "mobanet.yaml", "--storage-class", "shared-files")
    assert "storageClassName: shared-files" in (tmp_path / "mobanet.yaml").read_text()


@pytest.mark.parametrize("command", [("compile", "-o", "x.yaml"), ("run", "--runner", "subprocess", "--out", "x")])
def test_a_dry_run_prints_tasks_and_parameters_and_does_nothing(command, tmp_path):
    lines = call(*command[:-1], tmp_path / command[-1], "--dry-run").stdout.splitlines()
    assert lines[0].startswith("begin") and "train_steps = 600" in lines
    assert not list(tmp_path.iterdir())


def test_the_prediction_graph_has_tasks_and_parameters_of_its_own(tmp_path):
    lines = call("run", "predict", "--runner", "subprocess", "--set", "parts=3", "--dry-run").stdout.splitlines()
    assert lines[0].startswith("plan") and {"parts = 3", "model = models:/mobanet@champion"} <= set(lines)
    call("compile", "predict", "-o", tmp_path / "predict.yaml")
    assert "name: mobanet-predict" in (tmp_path / "predict.yaml").read_text()


def test_an_unknown_graph_is_one_sentence(tmp_path):
    with pytest.raises(ParamsError, match="there is no graph 'map'; expected one of train, predict, watch"):
        call("compile", "map", "-o", tmp_path / "map.yaml")


def test_a_file_that_kubeflow_would_not_take_is_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"expected a name that ends with \.yaml"):
        call("compile", "-o", tmp_path / "mobanet.txt")


def test_bad_parameters_are_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("data: {}\n")
    arguments = ["pipeline", "compile", "-o", str(tmp_path / "x.yaml"), "--params", str(tmp_path / "params.yaml")]
    monkeypatch.setattr("sys.argv", ["mobanet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("error: ") and "Traceback" not in err


def test_the_sentence_names_the_innermost_task(tmp_path):
    message = "Pipeline \x1b[95m'mobanet'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m. "
    message += "Inner task failed: \x1b[96m'train'\x1b[0m inside \x1b[96m'exit-handler-1'\x1b[0m."
    assert _sentence(COLOURS.sub("", message), tmp_path).startswith("the step train failed, see its log above")
    assert "went wrong" in _sentence("something went wrong", tmp_path)
