from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from components.common.errors import ParamsError
from pipeline.cli import app, main
from pipeline.commands.ablate import parse_seeds
from tests.pipeline.ablation.conftest import params, studies  # noqa: F401 (fixtures)

runner = CliRunner()

WITHOUT = ("rasterio", "pyproj", "shapely", "mlflow", "dvc", "boto3", "kfp", "fastapi", "onnx", "pandas", "psutil")
BARE = f"""
import runpy, sys
class Hidden:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in {WITHOUT} else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
runpy.run_module("pipeline.commands.ablate", run_name="__main__")
"""
"""The command in a process that finds only what a training needs."""


@pytest.fixture
def arguments(params, studies, toy_store, tmp_path):  # noqa: F811
    given = {"--studies": studies(), "--params": params, "--store": toy_store, "--out": tmp_path / "out", "--seeds": 1}
    return ["ablate", "small", *(str(part) for pair in given.items() for part in pair)]


def test_stdout_is_the_table_and_a_dry_run_lists_what_is_done(arguments):
    before = runner.invoke(app, [*arguments, "--dry-run"], catch_exceptions=False).stdout.splitlines()
    assert len(before) == 2 and before[0].startswith("with gate, seed 1: not trained (")
    done = runner.invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and done.stdout.startswith("small: What the gate is worth.")
    after = runner.invoke(app, [*arguments, "--dry-run"], catch_exceptions=False).stdout.splitlines()
    assert all(": done (" in line for line in after)
    document = json.loads(runner.invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert [run["variant"] for run in document["runs"]] == ["with gate", "without gate"]


def test_a_wrong_key_is_one_sentence_and_exit_code_2(arguments, studies, monkeypatch, capsys):  # noqa: F811
    studies({"small": {"about": "x", "variants": {"a": {}, "b": {"train.masking.shar": 0.1}}}})
    monkeypatch.setattr("sys.argv", ["mobanet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: variant 'b' of ") and "train.masking.shar is unknown" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "1,", "a", "-1", "1,1", "1.5"])
def test_seeds_that_are_no_list_of_different_whole_numbers_are_refused(text):
    with pytest.raises(ParamsError, match="--seeds is"):
        parse_seeds(text)


def test_seeds_may_have_blanks_between_them():
    assert parse_seeds("1, 2,30") == [1, 2, 30]


def test_the_built_in_studies_are_listed_when_one_is_unknown(params, toy_store, tmp_path):  # noqa: F811
    result = runner.invoke(app, ["ablate", "none", "--params", str(params), "--store", str(toy_store)])
    assert "choose one of single, compute, parts, modules, masking" in str(result.exception)
    assert yaml.safe_load(params.read_text())["train"]["steps"] == 2


def test_the_module_runs_where_only_the_packages_of_a_training_are_installed(arguments):
    done = subprocess.run([sys.executable, "-c", BARE, *arguments[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("small: What the gate is worth.") and "tables and pictures: " in done.stderr
