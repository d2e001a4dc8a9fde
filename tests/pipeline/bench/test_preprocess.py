import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.common.data.datasets import Split
from components.common.data.store import Store
from components.common.errors import DataError
from components.common.params import section
from components.common.rasterfiles.rasters import open_raster
from components.preprocess.step import PreprocessConfig, make_store
from pipeline.bench import preprocess
from pipeline.bench.preprocess import Measured, bench, measure
from pipeline.bench.raw_tiles import make, raw_tree
from pipeline.bench.watch import Peaks, watched


@pytest.fixture
def params(tmp_path):
    given = yaml.safe_load(Path("params.yaml").read_text())
    given["preprocess"] |= {"workers": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(given))
    return tmp_path / "params.yaml"


@pytest.fixture
def config(params):
    return section(params, "preprocess", PreprocessConfig)


def test_generated_tiles_are_varied_and_make_a_store(config, tmp_path):
    tree = raw_tree(tmp_path / "raw", 2)
    make(tree, 640)
    make_store(config, Split("bench", tuple(tree.tiles), (), ()), tree, tmp_path / "store")
    store = Store(tmp_path / "store")
    for entry in store.manifest.tiles:
        tile = store[entry]
        assert all(np.unique(tile.image_HWC[..., band]).size > 50 for band in range(3))
        assert min(entry.class_px) > 0
        assert np.ptp(tile.dsm_HW) > 0.5
        assert 0.05 < (tile.eroded_HW == 255).mean() < 0.2
    first, second = (store[entry].label_HW for entry in store.manifest.tiles)
    assert (first != second).any()


def test_tiles_that_are_there_in_this_size_are_not_made_again(tmp_path):
    tree = raw_tree(tmp_path, 1)
    make(tree, 200)
    path = tree.file(next(iter(tree.tiles)), "image")
    before = path.stat().st_mtime_ns
    make(tree, 200)
    assert path.stat().st_mtime_ns == before
    make(tree, 300)
    with open_raster(path, tmp_path) as file:
        assert file.header.width_px == 300


def test_the_figures_are_those_of_the_run_and_only_the_raw_tiles_are_left(config, tmp_path):
    found = measure(config, tmp_path, 2, 400)
    assert (found.tiles, found.side_px, found.workers) == (2, 400, 1)
    assert found.raw_gb == pytest.approx(2 * 400 * 400 * 13 / 1e9, rel=0.05)
    assert found.store_gb == pytest.approx(2 * 400 * 400 * 9 / 1e9, rel=0.05)
    assert found.ratio == found.preprocess_s / found.plain_io_s > 0
    assert 0 < found.cores_busy < 64
    assert found.memory_mb > 30
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["raw"]


def test_too_small_a_disk_is_refused_before_any_work(config, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**9}))
    with pytest.raises(DataError, match="30.1 GB are needed, but 1.0 GB are free; set --folder to a larger disk, or"):
        measure(config, tmp_path, 38, 6000)
    assert not (tmp_path / "raw").exists()


def test_json_holds_every_figure_and_the_temporary_folder_goes_away(params, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(preprocess.tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    bench(tiles=1, side=128, folder=None, params=params, as_json=True)
    assert json.loads(capsys.readouterr().out).keys() == {field.name for field in fields(Measured)}
    assert not list((tmp_path / "scratch").iterdir())


def test_memory_counts_the_children_and_what_they_have_for_themselves():
    code = "import sys; block = bytearray(b'1') * 200_000_000; print('there', flush=True); sys.stdin.read()"
    before = Peaks()
    before.look()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "there\n"
    with watched(every_s=0.02) as peaks:
        child.communicate("")
    peaks.look()
    assert peaks.worker_private_mb == pytest.approx(200e6 / 2**20, rel=0.2)
    assert peaks.all_mb > before.all_mb + 150
