"""`mobanet bench export`: the arithmetic of its table, and a run over a package."""

from __future__ import annotations

import dataclasses
import json
import shutil

import torch
from rich.console import Console
from typer.testing import CliRunner

from components.common.files import write_json
from pipeline.bench import export
from pipeline.bench.export import EAGER, Way, rows
from pipeline.cli import app
from tests.components.conftest import package, trained  # noqa: F401 (fixtures)


def test_the_ratios_are_those_to_eager_torch() -> None:
    way = Way("float32", "torch", 3.5, alone=len, together=len)
    fast = dataclasses.replace(way, precision="int8", runtime="onnxruntime", megabytes=1.0)
    eager, int8 = rows(
        {EAGER: way, "onnx-int8": fast}, {EAGER: 0.02, "onnx-int8": 0.005}, {EAGER: 2, "onnx-int8": 4}, 8
    )
    assert dataclasses.astuple(eager) == ("eager", "float32", "torch", 3.5, 20.0, 1.0, 4.0, 1.0)
    assert dataclasses.astuple(int8) == ("onnx-int8", "int8", "onnxruntime", 1.0, 5.0, 4.0, 2.0, 0.5)


def test_the_fastest_round_counts_and_the_first_one_does_not(package, monkeypatch) -> None:  # noqa: F811
    batches = []
    seconds = iter([1, 1, 1, 1, 8, 20, 4, 5, 6, 10, 5, 8])  # eager alone, together, onnx alone, together; three rounds

    def timed(compute, inputs):
        batches.append((len(inputs[0]), torch.get_num_threads()))
        return next(seconds)

    monkeypatch.setattr(export, "_seconds", timed)
    report = export.measure(package, batch_size=4, rounds=2)
    eager, onnx = report.rows
    assert (eager.format, onnx.format) == (EAGER, "onnx")
    assert (eager.latency_ms, onnx.latency_ms, onnx.latency_ratio) == (6000, 4000, 1.5)
    assert (eager.windows_per_s, onnx.windows_per_s, onnx.speed_ratio) == (0.4, 0.8, 2)
    assert batches == 6 * [(1, 1), (4, report.threads)]
    assert onnx.megabytes == (package / "model.onnx").stat().st_size / 1e6


def test_mobanet_bench_export_prints_every_format_and_what_is_left_out(package, tmp_path) -> None:  # noqa: F811
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    record = json.loads((copy / "export.json").read_text())
    record["formats"]["onnx-int8"] = {"status": "left out", "reason": "model_int8.onnx: too many pixels change"}
    write_json(copy / "export.json", record)
    options = ["bench", "export", str(copy), "--rounds", "1", "--batch", "2"]
    result = CliRunner().invoke(app, [*options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["format"] for row in report["rows"]] == [EAGER, "onnx"]
    assert (report["window_px"], report["batch_size"], report["rounds"]) == (32, 2, 1)
    assert report["left_out"] == {"onnx-int8": "model_int8.onnx: too many pixels change"}
    assert all(row["latency_ms"] > 0 and row["windows_per_s"] > 0 for row in report["rows"])
    printed = CliRunner().invoke(app, options, env={"COLUMNS": "200"}).stdout
    assert "onnx-int8 is not in the package: model_int8.onnx: too many pixels change" in printed
    assert "latency" in printed and "eager" in printed


def test_no_name_is_cut_in_a_narrow_terminal(capsys) -> None:
    way = Way("float32", "onnxruntime", 1234.5, alone=len, together=len)
    row = rows({EAGER: way}, {EAGER: 12.3456}, {EAGER: 0.001}, 8)[0]
    long = dataclasses.replace(row, format="onnx-float16", latency_ratio=12.34, speed_ratio=12.34)
    Console(width=80).print(export._table(export.Report("cpu", "2", "1", "vit", 32, 8, 2, 5, (long,), {})))
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line == "onnx-float16 float32 onnxruntime 1234.5 12345.6 12.34 x 8000.0 12.34 x".split()


def test_a_changed_package_is_not_measured(package, tmp_path) -> None:  # noqa: F811
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    (copy / "model.onnx").write_bytes(b"other")
    result = CliRunner().invoke(app, ["bench", "export", str(copy)])
    assert result.exit_code != 0 and "changed since the export" in str(result.exception)
