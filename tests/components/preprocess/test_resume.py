"""An interrupted run goes on with what is finished, and takes nothing that it would make otherwise."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import yaml

from components.common.data.config import Accepted
from components.common.data.datasets import dataset, split
from components.common.data.rawtree import read_raw_tree, write_raw_tree
from components.common.data.store import Store
from components.common.errors import DataError
from components.preprocess.step import run as preprocess
from components.preprocess.step import run_shard

DATASET = dataset("sample")
TILES = split("sample", "sample").tiles


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def run(config, raw, store):
    return preprocess(config, "sample", raw, store)


@pytest.fixture
def stopped(potsdam, config, tmp_path):
    """A run that a damaged label of the last tile has stopped, and the file mended again."""
    raw = potsdam()
    broken = raw / DATASET.path("label", TILES[-1])
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=broken.name):
        run(config(), raw, tmp_path / "store")
    broken.write_bytes(whole)
    return raw


def finished_tiles(caplog):
    counts = [message for message in caplog.messages if "are finished already" in message]
    return int(counts[0].split()[1]) if counts else 0


def test_a_bad_tile_keeps_the_finished_ones_for_the_next_run(stopped, potsdam, config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    draft = tmp_path / ".store.part"
    before = {path.name: path.stat().st_mtime_ns for path in draft.glob("*.arrow")}
    assert len(before) == len(TILES) - 1
    run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 1
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.arrow")}
    assert before.items() <= after.items()


def test_the_resumed_store_is_the_uninterrupted_one_and_holds_nothing_else(stopped, config, tmp_path):
    run(config(), stopped, tmp_path / "store")
    run(config(), stopped, tmp_path / "at_once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at_once")
    assert {path.suffix for path in (tmp_path / "store").iterdir()} == {".arrow", ".json"}
    assert {path.name for path in (tmp_path / "store").glob("*.json")} == {"manifest.json", "croissant.json"}
    assert not (tmp_path / ".store.part").exists()


@pytest.mark.parametrize("change", ["method", "max_pad_px", "max_unknown_share"])
def test_another_setting_builds_every_tile_again(stopped, config, tmp_path, caplog, change):
    caplog.set_level(logging.INFO)
    given = config("per-tile") if change == "method" else config()
    changes = {"max_pad_px": 7, "max_unknown_share": 0.01}
    run(replace(given, **{change: changes[change]}) if change in changes else given, stopped, tmp_path / "store")
    assert finished_tiles(caplog) == 0


def test_a_raw_file_that_has_changed_builds_its_tile_again(stopped, config, rewrite, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    rewrite(stopped / DATASET.path("image", TILES[0]), lambda pixels_BHW: 255 - pixels_BHW)
    os.utime(stopped / DATASET.path("dsm", TILES[1]))
    result = run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 3
    changed = stopped / DATASET.path("image", TILES[0])
    digest = hashlib.sha256(changed.read_bytes()).hexdigest()
    assert result.manifest.tiles[0].sources[DATASET.path("image", TILES[0])] == digest


def test_a_changed_world_file_makes_its_tile_again(stopped, config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    world_file = (stopped / DATASET.path("dsm", TILES[0])).with_suffix(".tfw")
    lines = world_file.read_text().splitlines()
    lines[4] = repr(float(lines[4]) + 0.02)  # 0.4 px to the east
    world_file.write_text("\n".join(lines))
    result = run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 2
    assert ["lies 0.40 px off" in note for note in result.manifest.tiles[0].notes] == [True]
    name = world_file.relative_to(stopped).as_posix()
    assert result.manifest.tiles[0].sources[name] == hashlib.sha256(world_file.read_bytes()).hexdigest()


def test_a_new_mask_file_makes_its_tile_again(stopped, config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    image = stopped / DATASET.path("image", TILES[0])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(image, "r+") as file:
        file.write_mask(np.arange(64)[:, None].repeat(64, 1) >= 10)
    assert image.with_name(f"{image.name}.msk").exists()
    result = run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 2
    assert result.manifest.tiles[0].ignored_px == 10 * 64


def test_a_changed_source_of_a_vrt_makes_its_tile_again(stopped, config, rewrite, tmp_path, caplog, raw_tree):
    caplog.set_level(logging.INFO)
    vrt, source = stopped / "height.vrt", stopped / DATASET.path("dsm", TILES[0])
    rasterio.shutil.copy(source, vrt, driver="VRT")
    tree = read_raw_tree(stopped)
    tiles = tree.tiles | {TILES[0]: {**tree.tiles[TILES[0]], "dsm": vrt.name}}
    write_raw_tree(replace(tree, tiles=tiles))
    run_shard(config(), "sample", stopped, tmp_path / "store", TILES[:1])
    changed = source.read_bytes()
    source.write_bytes(changed)  # the same pixels, but later
    caplog.clear()
    result = run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 2
    names = {vrt.name, source.relative_to(stopped).as_posix()}
    assert names < result.manifest.tiles[0].sources.keys()


def test_an_accepted_finding_makes_every_tile_again(stopped, config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    preprocess(config(), "sample", stopped, tmp_path / "store", Accepted({"low-coverage": "all"}))
    assert finished_tiles(caplog) == 0


@pytest.mark.parametrize("damage", ["no note", "half a note", "no tile", "foreign note"])
def test_a_tile_without_its_note_or_a_note_without_its_tile_is_built_again(stopped, config, tmp_path, caplog, damage):
    caplog.set_level(logging.INFO)
    draft = tmp_path / ".store.part"
    note, tile = draft / f"{TILES[0]}.json", draft / f"{TILES[0]}.arrow"
    if damage == "no tile":
        tile.unlink()
    elif damage == "no note":
        note.unlink()
    else:
        note.write_text(note.read_text()[:100] if damage == "half a note" else '{"key": 1}')
    run(config(), stopped, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES) - 2
    assert [entry.id for entry in Store(tmp_path / "store").manifest.tiles] == list(TILES)


def test_what_else_lies_in_the_draft_does_not_reach_the_store(stopped, config, tmp_path):
    for name in (".2_10.arrow.123.part", "9_99.arrow", "9_99.json", "manifest.json"):
        (tmp_path / ".store.part" / name).write_text("left over")
    run(config(), stopped, tmp_path / "store")
    known = [*(f"{tile}.arrow" for tile in TILES), "manifest.json", "croissant.json"]
    assert sorted(contents(tmp_path / "store")) == sorted(known)


@pytest.mark.system
@pytest.mark.parametrize("after_s", [0.8, 1.2, 1.6, 2.0, 2.4])
def test_killed_at_any_moment_and_run_again_the_store_is_the_same(potsdam, config, tmp_path, after_s):
    raw = potsdam(side_px=1024)
    run(config(workers=2), raw, tmp_path / "at_once")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["preprocess"] |= {"workers": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "components.preprocess", "--params", tmp_path / "params.yaml", "--raw", raw]
    child = subprocess.Popen([*command, "--store", tmp_path / "store"], start_new_session=True)
    time.sleep(after_s)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    run(config(workers=2), raw, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "at_once")


def test_shards_of_several_processes_make_the_store_that_one_run_makes(potsdam, config, tmp_path, caplog):
    raw = potsdam()
    run(config(), raw, tmp_path / "one")
    shards = [TILES[0::2], TILES[1::2]]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda tiles: run_shard(config(), "sample", raw, tmp_path / "store", tiles), shards))
    assert not (tmp_path / "store").exists()
    caplog.set_level(logging.INFO)
    run(config(), raw, tmp_path / "store")
    assert finished_tiles(caplog) == len(TILES)
    assert contents(tmp_path / "store") == contents(tmp_path / "one")


def test_a_shard_leaves_tiles_of_others_alone_and_finds_its_own_again(potsdam, config, tmp_path, caplog):
    raw = potsdam()
    for tiles in (TILES[:1], TILES[1:2], TILES[:1]):
        caplog.clear()
        caplog.set_level(logging.INFO)
        run_shard(config(), "sample", raw, tmp_path / "store", tiles)
    assert finished_tiles(caplog) == 1
    assert {path.stem for path in (tmp_path / ".store.part").glob("*.arrow")} == set(TILES[:2])
