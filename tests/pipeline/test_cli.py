from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from components.common.errors import ParamsError
from pipeline import __version__
from pipeline.cli import app, main

runner = CliRunner()


def test_model_info_counts_the_papers_network_as_json():
    result = runner.invoke(app, ["model", "info", "--backbone", "vit_small_patch14_dinov2", "--json"])
    counts = json.loads(result.stdout)
    assert (counts["total"], counts["trainable"]) == (25_307_648, 3_251_456)
    assert sum(part["total"] for part in counts["parts"].values()) == counts["total"]
    assert counts["parts"]["backbone"]["trainable"] == 0


def test_model_info_without_auxiliary_heads_counts_what_is_deployed():
    arguments = ["model", "info", "--backbone", "vit_small_patch14_dinov2", "--no-aux-heads", "--json"]
    assert json.loads(runner.invoke(app, arguments).stdout)["trainable"] == 2_067_712


def test_model_info_prints_a_table_of_the_parts():
    result = runner.invoke(app, ["model", "info"])
    assert "vit_tiny_patch16_224, patch size 16 px" in result.stdout
    for part in ("backbone", "cpia", "dgfm", "decoder", "aux_heads", "network"):
        assert part in result.stdout


def test_model_list_prints_names_to_copy_and_licences_and_the_same_as_json():
    table = runner.invoke(app, ["model", "list", "vit_small_patch16_dinov3.*"]).stdout
    entries = json.loads(runner.invoke(app, ["model", "list", "vit_small_patch16_dinov3.*", "--json"]).stdout)
    for entry in entries:
        assert entry["name"] in table and entry["licence"] in table
    assert entries[0] == {
        "name": "vit_small_patch16_dinov3.lvd1689m",
        "weights": 21_586_944,
        "patch_px": 16,
        "positions": "rotary",
        "licence": "dinov3-license",
    }


def test_an_unknown_backbone_is_an_error_a_user_can_read():
    result = runner.invoke(app, ["model", "info", "--backbone", "vit_nonsense"])
    assert isinstance(result.exception, ParamsError)


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["model", "info", "--backbone", "vit_nonsense"], 2, "error: backbone is 'vit_nonsense'"),
        (["model", "info", "--params", "nowhere.yaml"], 2, "error: nowhere.yaml: no such file"),
        (["model", "list", "resnet*"], 2, "error: 'resnet*' matches no supported backbone"),
        (["--version"], 0, ""),
    ],
)
def test_exit_codes_and_stderr(arguments, code, err, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mobanet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    captured = capsys.readouterr()
    assert captured.err.startswith(err) and "Traceback" not in captured.err
    if arguments == ["--version"]:
        assert captured.out.strip() == __version__


def test_help_names_every_command():
    assert "model" in runner.invoke(app, ["--help"]).stdout
    assert "--backbone" in runner.invoke(app, ["model", "info", "--help"]).stdout
