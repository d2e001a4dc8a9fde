from __future__ import annotations

import dataclasses
import json
import logging
import mmap
import os
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.common.data.store import Store
from components.common.params import section
from components.train.config import TrainConfig
from components.train.crops import Crops
from pipeline.bench import loader, noise_tiles, rivals
from pipeline.bench.memory import MB, private_bytes
from pipeline.cli import app

PARAMS = Path(__file__).parents[2] / "params.yaml"
TINY = [
    "bench",
    "data",
    "--tiles",
    "2",
    "--side",
    "160",
    "--crop",
    "64",
    "--batch",
    "4",
    "--seconds",
    "0.05",
    "--params",
    str(PARAMS),
]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*options):
        result = CliRunner().invoke(app, [*TINY, *options])
        assert list(tmp_path.iterdir()) == []  # no tile is left behind
        return result

    return call


@pytest.mark.parametrize("workers", ["0", "1"])
def test_json_has_every_way_and_ratios_that_follow_from_the_rates(bench, workers):
    result = bench("--workers", workers, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    setting = {"tiles": 2, "side_px": 160, "crop_px": 64, "batch_size": 4, "workers": int(workers), "seconds": 0.05}
    assert setting.items() <= found.items() and found["cores"] >= 1
    assert list(found["ways"]) == list(loader.WAYS)
    assert all(way["crops_per_s"] > 0 and way["private_mb"] > 0 for way in found["ways"].values())
    ours = found["ways"]["loader"]["crops_per_s"]
    expected = {f"loader/{way}": ours / found["ways"][way]["crops_per_s"] for way in ("rasterio", "cached")}
    assert found["ratios"] == pytest.approx(expected)


def test_without_memory_for_the_cached_tiles_that_way_is_left_out(bench, monkeypatch, caplog):
    monkeypatch.setattr(rivals, "cached_bytes", lambda side_px: 2**60)
    with caplog.at_level(logging.INFO):
        result = bench("--workers", "0")
    assert result.exit_code == 0
    assert "too little memory" in result.stdout and "loader, twice as many tiles" in result.stdout
    assert "not measured, needs" in caplog.text


def test_a_crop_larger_than_a_tile_is_refused():
    result = CliRunner().invoke(app, [*TINY, "--crop", "161"], catch_exceptions=True)
    assert "--crop is 161, larger than the tile's side of 160 px" in str(result.exception)


@pytest.mark.parametrize("kind", ["rasterio", "cached"])
def test_every_way_cuts_the_same_crops(tmp_path, kind):
    noise_tiles.make_store(tmp_path, 2, 160, tiffs=2)
    store = Store(tmp_path)
    config = section(PARAMS, "train", TrainConfig)
    stride = dataclasses.replace(config.validation, stride_px=64)
    crops = Crops(store, store.manifest.tiles, dataclasses.replace(config, crop_px=64, validation=stride))
    places = crops.places(0, 16)
    if kind == "rasterio":
        rival, unit = rivals.RasterioCrops(tmp_path, places, 64), 1
    else:
        rival, unit = rivals.CachedCrops(store, 2, places, 64), 255
    batch = crops.empty(16)
    crops.cut(0, batch)
    for i in range(16):
        image, dsm, label = rival[i]
        assert (image * unit).round().equal(batch.image_BCHW[i].to(image.dtype))
        assert dsm.equal(batch.dsm_B1HW[i, 0])
        assert label.equal(batch.label_BHW[i].to(label.dtype))


def test_memory_that_a_process_writes_is_private_and_a_mapped_file_is_not(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(bytes(64 * MB))
        os.fsync(file.fileno())
    before = private_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[i] for i in range(0, 64 * MB, 4096)) == 0
        assert private_bytes() - before < 32 * MB
    written = bytearray(b"x" * 64 * MB)
    assert private_bytes() - before > 60 * MB
    del written
