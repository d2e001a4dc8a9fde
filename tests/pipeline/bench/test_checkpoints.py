from __future__ import annotations

import json
import time

import pytest
import yaml
from typer.testing import CliRunner

from components.common.errors import ParamsError
from components.train.checkpoints import checkpoint
from pipeline.bench import checkpoints as bench
from pipeline.cli import app
from tests.e2e.conftest import ROOT, merged
from tests.e2e.toy_training import SETTINGS

runner = CliRunner()


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Parameters of a toy network, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "SAVES", 2)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(merged(yaml.safe_load((ROOT / "params.yaml").read_text()), SETTINGS)))
    return file


def test_the_table_compares_three_ways_by_the_speed_without_checkpoints(params, monkeypatch):
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *file: time.sleep(0.1) or write(*file))
    arguments = ["bench", "train", "--checkpoints", "--every", "0.2", "--batch", "2", "--crop", "32"]
    report = json.loads(runner.invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (report["backbone"], report["batch"], report["crop_px"], report["every_s"]) == ("test_vit", 2, 32, 0.2)
    assert report["ways"].keys() == {"none", "in the background", "in the training thread"}
    without = report["ways"]["none"]
    assert (without["ratio"], without["held_ms"], without["checkpoints"]) == (1.0, None, 0)
    assert report["ways"]["in the background"]["held_ms"] > 0
    assert report["ways"]["in the training thread"]["held_ms"] >= 100
    for way in ("in the background", "in the training thread"):
        row = report["ways"][way]
        assert 1 <= row["checkpoints"] <= 2  # a step of a busy machine can outlast an interval
        assert row["ratio"] == pytest.approx(row["images_per_s"] / without["images_per_s"])
    megabytes = 3 * 4 * report["trained_weights"] / 2**20  # a weight and two moments of AdamW, four bytes each
    assert report["file_mb"] == pytest.approx(megabytes, rel=0.3)
    assert [path.name for path in params.parent.iterdir()] == ["params.yaml"]


def test_the_report_is_printed_as_aligned_text():
    ways = {"none": bench.Speed(10.0, 0.01, 1.0, None, 0), "in the background": bench.Speed(9.9, 0.02, 0.99, 12.3, 15)}
    report = bench.CheckpointReport("cpu, 2 threads", "2.0", "vit", 8, 128, 1_500_000, 18.2, 5.0, ways)
    table = bench.as_table(report).splitlines()
    assert table[1] == "vit, batch 8, 128 x 128 px: 1.5 M trained weights, 18 MB every 5 s"
    rows = [["10.0", "1.0%", "1.000", "-", "0"], ["9.9", "2.0%", "0.990", "12", "15"]]
    assert [line.split()[-5:] for line in table[3:]] == rows


def test_options_of_the_other_comparison_are_rejected(params):
    result = runner.invoke(app, ["bench", "train", "--checkpoints", "--switches"])
    assert result.exit_code == 2
    assert "--steps, --switches and --alone do not apply" in result.output


def test_an_unknown_backbone_is_an_error_a_user_can_read(params):
    with pytest.raises(ParamsError, match="vit_nonsense"):
        bench.bench_checkpoints(params, "vit_nonsense", None, None, 1.0)
