from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pipeline.bench import curves
from pipeline.bench.recipes import FLOAT32, OURS
from pipeline.cli import app


@pytest.fixture
def arguments(toy_store, monkeypatch):
    monkeypatch.setattr(curves, "WINDOW", 2)
    small = ["--backbone", "test_vit", "--batch", "2", "--crop", "32", "--steps", "4", "--seeds", "2"]
    return ["bench", "curves", "--store", str(toy_store), *small]


def test_both_recipes_see_the_same_crops_and_start_alike(arguments):
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    ours, reference = found["losses"][OURS], found["losses"][FLOAT32]
    assert [len(curve) for curve in (*ours, *reference)] == [2] * 4
    assert ours[0] != ours[1]
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


def test_the_table_has_a_line_for_every_window(arguments):
    table = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    assert [line.split()[0] for line in table[2:]] == ["1-2", "3-4"]


def test_differences_are_ours_minus_theirs_and_noise_is_their_spread_over_seeds():
    found = curves.Curves("cpu", "x", 2, 2, {OURS: [[1.0, 2.0], [3.0, 2.0]], FLOAT32: [[1.0, 1.0], [2.0, 4.0]]})
    assert found.differences == [0.5, -0.5]
    assert found.noise == [1.0, 3.0]
