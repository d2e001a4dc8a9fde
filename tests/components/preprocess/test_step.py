import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.common.data.config import Accepted
from components.common.data.datasets import dataset, split
from components.common.data.store import MANIFEST, Store
from components.common.errors import DataError, ParamsError
from components.common.params import from_mapping, section
from components.preprocess.step import PreprocessConfig
from components.preprocess.step import run as preprocess

DATASET = dataset("sample")
SPLIT = split("sample", "sample")


def run(config, raw, store, split="sample"):
    return preprocess(config, split, raw, store)


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_store_holds_every_tile_of_the_split_in_its_order_with_its_subset(potsdam, config, tmp_path):
    result = run(config(), potsdam(), tmp_path / "data" / "store")
    store = Store(tmp_path / "data" / "store")
    assert store.manifest == result.manifest
    assert store.data_md5 == result.data_md5
    assert tuple(entry.id for entry in store.manifest.tiles) == SPLIT.tiles
    assert [len(store.manifest.subset(subset)) for subset in ("train", "val", "test")] == [6, 2, 2]
    for entry in store.manifest.tiles:
        assert store[entry].image_HWC.shape == (64, 64, 3)


def test_the_manifest_says_what_the_store_is_made_of(potsdam, config, tmp_path):
    manifest = run(config(), potsdam(), tmp_path / "store").manifest
    assert (manifest.dataset, manifest.source, manifest.split) == ("sample", "sample", "sample")
    assert manifest.bands == ("red", "green", "blue")
    assert manifest.gsd_m == 0.05
    assert manifest.classes == ("impervious", "building", "low_vegetation", "tree", "car", "clutter")
    assert manifest.in_means == (True,) * 5 + (False,)
    assert manifest.palette[4] == (255, 255, 0)
    assert manifest.heights.method == "above-ground"
    assert manifest.acknowledgement == DATASET.acknowledgement
    assert (manifest.image_range, manifest.image_mean) == ((0, 255), DATASET.image.mean)


@pytest.mark.parametrize("method", ["above-ground", "training-range"])
def test_one_worker_and_two_write_the_same_bytes(potsdam, config, tmp_path, method):
    raw = potsdam()
    for workers in (1, 2):
        run(config(method, workers=workers), raw, tmp_path / str(workers))
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert len(one) == 12  # ten tiles, manifest, description
    assert one == two


def test_the_store_does_not_depend_on_where_it_and_the_tiles_lie(potsdam, config, tmp_path, monkeypatch):
    raw = potsdam()
    run(config(), raw, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    run(config(), Path("raw"), Path("there"))
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_training_range_looks_at_training_tiles_alone(potsdam, rewrite, config, tmp_path):
    raw = potsdam()
    before = run(config("training-range"), raw, tmp_path / "store").manifest.heights
    assert before.offset_m == pytest.approx(40, abs=0.2)
    assert 0.5 < before.scale_m < 1.5
    for tile in (*SPLIT.val, *SPLIT.test):
        rewrite(raw / DATASET.path("dsm", tile), lambda pixels_BHW: pixels_BHW + 1000)
    result = run(config("training-range"), raw, tmp_path / "store")
    assert result.manifest.heights == before
    store = Store(tmp_path / "store")
    assert all((store[entry].dsm_HW == 2.0).all() for entry in result.manifest.subset("test"))
    for tile in SPLIT.train:
        rewrite(raw / DATASET.path("dsm", tile), lambda pixels_BHW: pixels_BHW + 1000)
    moved = run(config("training-range"), raw, tmp_path / "store").manifest.heights
    assert moved.offset_m == pytest.approx(before.offset_m + 1000, abs=0.02)
    assert moved.scale_m == pytest.approx(before.scale_m, abs=0.02)


def test_another_setting_or_another_source_is_another_data_version(potsdam, rewrite, config, tmp_path):
    raw = potsdam()
    versions = [run(config(method), raw, tmp_path / "store").data_md5 for method in ("above-ground", "per-tile")]
    rewrite(raw / DATASET.path("image", "5_11"), lambda pixels_BHW: 255 - pixels_BHW)
    versions.append(run(config("per-tile"), raw, tmp_path / "store").data_md5)
    assert len(set(versions)) == 3


def test_another_release_makes_the_same_data_version(potsdam, config, tmp_path, monkeypatch):
    raw = potsdam()
    versions = {run(config(), raw, tmp_path / "store").data_md5}
    monkeypatch.setattr("components.preprocess.step.tool_version", lambda: "9.9.9")
    again = run(config(), raw, tmp_path / "again")
    assert again.manifest.tool_version == "9.9.9"
    assert versions | {again.data_md5, Store(tmp_path / "again").data_md5} == versions


@pytest.mark.parametrize("key", ["unit_m", "scale", "offset", "nodata"])
def test_how_heights_are_read_is_part_of_the_data_version(potsdam, config, tmp_path, key):
    raw = potsdam()
    before = run(config(), raw, tmp_path / "store").data_md5
    facts = json.loads((raw / "dataset.json").read_text())
    facts["dataset"]["dsm"][key] = [float("nan")] if key == "nodata" else 0.5
    (raw / "dataset.json").write_text(json.dumps(facts))
    assert run(config(), raw, tmp_path / "store").data_md5 != before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_run_leaves_the_earlier_store_as_it_was(potsdam, config, tmp_path, workers):
    raw = potsdam()
    run(config(), raw, tmp_path / "store")
    before = contents(tmp_path / "store")
    broken = raw / DATASET.path("label", "5_11")  # the last tile
    os.truncate(broken, broken.stat().st_size // 2)
    with pytest.raises(DataError, match="top_potsdam_5_11_label.tif: not a readable TIFF"):
        run(config("per-tile", workers=workers), raw, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["raw", "store"]


def test_missing_tiles_are_found_before_any_work(potsdam, config, tmp_path):
    raw = potsdam()
    (raw / DATASET.path("dsm", "5_10")).unlink()
    (raw / DATASET.path("image", "2_10")).write_text("unreadable too, but looked at later")
    with pytest.raises(DataError, match="dsm_potsdam_05_10.tif: no such file, needed for tile 5_10.* 1 are missing"):
        run(config(), raw, tmp_path / "store")


def test_a_split_that_the_data_set_has_not_is_refused(potsdam, config, tmp_path):
    with pytest.raises(ParamsError, match="data.split is 'mine'; sample has the splits sample"):
        run(config(), potsdam(), tmp_path / "store", "mine")


def test_without_the_acquire_step_the_sentence_names_it(config, tmp_path):
    with pytest.raises(DataError, match="dataset.json: no such file; run the acquire step first"):
        run(config(), tmp_path / "raw", tmp_path / "store")


def test_a_table_and_the_notes_of_the_workers_are_logged(potsdam, config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run(config(workers=2), potsdam(magenta_px=3, dsm_short_by=2, hole_px=8), tmp_path / "store")
    notes = [message.split(".tif: ")[1] for message in caplog.messages if ".tif: " in message]
    starts = (
        "smaller than the image; padded 2 px at the right",
        "64 px (1.56 %) hold no height",
        "3 px (0.0732 %) have",
    )
    assert [note.startswith(start) for note, start in zip(notes, starts, strict=True)] == [True] * 3
    row = next(message for message in caplog.messages if message.startswith("2_10 "))
    assert row.split()[1:5] == ["train", "64", "x", "64"]
    assert row.split()[-4:] == ["0", "3", f"{100 * 64 / 64**2:.2f}", "%"]


def test_the_manifest_records_what_the_user_has_accepted(potsdam, config, tmp_path):
    raw = potsdam(magenta_px=64)
    with pytest.raises(DataError, match=r'set check.accept: {label-unknown: \["2_10"\]}'):
        run(config(), raw, tmp_path / "store")
    accepted = Accepted({"label-unknown": ("2_10",), "dsm-blank": "all"})
    versions = [preprocess(config(), "sample", raw, tmp_path / "store", accepted).data_md5]
    manifest = Store(tmp_path / "store").manifest
    assert manifest.accepted == {"label-unknown": ("2_10",), "dsm-blank": "all"}
    assert (manifest.tiles[0].id, manifest.tiles[0].unknown_px) == ("2_10", 64)
    versions.append(
        preprocess(config(), "sample", raw, tmp_path / "store", Accepted({"label-unknown": "all"})).data_md5
    )
    assert len(set(versions)) == 2


@pytest.fixture
def command(tmp_path):
    def command(raw, store, **changes):
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["preprocess"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        paths = ["--params", tmp_path / "params.yaml", "--raw", raw, "--store", store]
        return subprocess.run([sys.executable, "-m", "components.preprocess", *paths], capture_output=True, text=True)

    return command


def test_the_command_makes_a_store_with_the_settings_of_the_project(potsdam, command, tmp_path):
    done = command(potsdam(), tmp_path / "store")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "store" / MANIFEST).exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_reports_bad_data_in_one_line_and_exit_code_2(potsdam, command, tmp_path, workers):
    done = command(potsdam(magenta_px=64), tmp_path / "store", workers=workers)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "error" in line.lower()] == done.stderr.splitlines()[-1:]
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/raw/5_Labels_all/top_potsdam_2_10_label.tif: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


def test_the_params_of_the_project_fit_the_config():
    assert section(Path("params.yaml"), "preprocess", PreprocessConfig).workers == 0


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("max_unknown_share", 1.5, "max_unknown_share is 1.5; expected a number from 0 to 1"),
        ("max_pad_px", -1, "max_pad_px is -1; expected a whole number from 0 to 4096"),
        ("workers", -1, "workers is -1; expected a whole number from 0 to 1024"),
        ("workers", True, "workers is true"),
        ("heights", {"method": "none"}, "heights.ground_radius_m is missing"),
    ],
)
def test_a_setting_out_of_range_is_named(key, value, sentence):
    given = yaml.safe_load(Path("params.yaml").read_text())["preprocess"] | {key: value}
    with pytest.raises(ParamsError) as caught:
        from_mapping(PreprocessConfig, given, "preprocess")
    assert str(caught.value).startswith(f"preprocess.{sentence}")


def test_a_vaihingen_folder_becomes_a_store_of_its_own_bands(tmp_path, config, pixels_of, raw_tree):
    from PIL import Image

    vaihingen, raw = dataset("vaihingen"), tmp_path / "raw"
    tiles = split("vaihingen", "ssrs").tiles
    for tile in tiles:
        image_BHW, dsm_HW, label_BHW, eroded_BHW = pixels_of(f"0_{tile}", 40)
        layers = {"image": image_BHW, "label": label_BHW, "eroded": eroded_BHW, "dsm": dsm_HW[None]}
        for kind, pixels_BHW in layers.items():
            path = raw / vaihingen.path(kind, tile)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.moveaxis(pixels_BHW, 0, -1) if kind != "dsm" else dsm_HW).save(path)
    raw_tree(raw, vaihingen, tiles, "isprs")
    manifest = run(config(), raw, tmp_path / "store", "ssrs").manifest
    assert manifest.bands == ("near infrared", "red", "green")
    assert manifest.acknowledgement == vaihingen.acknowledgement
    first = manifest.tiles[0]
    assert (first.id, first.crs, first.transform) == ("1", "EPSG:32632", (0.09, 0.0, 0.0, 0.0, -0.09, 0.0))
    stored = Store(tmp_path / "store")[first]
    np.testing.assert_array_equal(stored.image_HWC, np.moveaxis(pixels_of("0_1", 40)[0], 0, -1))
