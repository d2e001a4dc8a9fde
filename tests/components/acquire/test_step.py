from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from components.acquire import step
from components.acquire.step import SampleConfig, run
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RECORD, RawTree, read_raw_tree, write_raw_tree
from components.common.errors import DataError, ParamsError
from components.common.params import from_mapping
from tests.isprs_package import write_package

SAMPLE = SampleConfig(seed=7, side_px=256)


def data(**changes: object) -> DataConfig:
    usual = {"source": "isprs", "dataset": "potsdam", "split": "official"}
    absent = dict.fromkeys(("image", "dsm", "path", "repo", "rev", "crs"))
    return DataConfig(**(absent | usual | changes))  # type: ignore[arg-type]


def city(seed: int, side_px: int, tiles: Sequence[str], folder: Path) -> RawTree:
    tree = RawTree(
        folder, "sample", datasets.dataset("sample"), {f"{seed}_{side_px}": {}, **{tile: {} for tile in tiles[10:]}}
    )
    write_raw_tree(tree)
    return tree


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw folder from an earlier run."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "earlier.tif").write_text("earlier")
    return tmp_path / "data" / "raw"


def test_the_sample_replaces_the_raw_folder_and_says_what_it_is(raw, caplog, monkeypatch) -> None:
    monkeypatch.setattr(step, "write_city", city)
    caplog.set_level("INFO")
    tree = run(data(source="sample", dataset="sample", split="sample"), SAMPLE, raw)
    assert tree == read_raw_tree(raw) and list(tree.tiles) == ["7_256"]
    assert {path.name for path in raw.iterdir()} == {RECORD}
    assert datasets.dataset("sample").acknowledgement in caplog.text


@pytest.mark.parametrize("tiles", [11, 25])
def test_a_larger_sample_can_be_made_for_any_split_that_it_has(raw, monkeypatch, caplog, tiles) -> None:
    monkeypatch.setattr(step, "write_city", city)
    caplog.set_level("INFO")
    larger = SampleConfig(seed=7, side_px=256, tiles=tiles)
    assert len(run(data(source="sample", dataset="sample", split="sample"), larger, raw).tiles) == 1 + tiles - 10
    assert "missing" not in caplog.text


@pytest.mark.parametrize("tiles", [10, 24])
def test_a_split_with_more_tiles_than_the_sample_names_the_parameter(raw, tiles) -> None:
    smaller = SampleConfig(seed=7, side_px=256, tiles=tiles)
    with pytest.raises(ParamsError, match=r"data.split sample-25 has the tile .*; set sample.tiles to 25, or choose"):
        run(data(source="sample", dataset="sample", split="sample-25"), smaller, raw)
    assert (raw / "earlier.tif").exists()


def test_an_interrupted_sample_leaves_the_earlier_folder_as_it_was(raw, monkeypatch) -> None:
    def interrupted(seed: int, side_px: int, tiles: Sequence[str], folder: Path) -> RawTree:
        (folder / "half.tif").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "write_city", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data(source="sample", dataset="sample", split="sample"), SAMPLE, raw)
    assert [path.name for path in raw.parent.rglob("*")] == ["raw", "earlier.tif"]


def test_isprs_files_replace_what_was_there_and_the_terms_are_named(tmp_path, raw, caplog) -> None:
    caplog.set_level("INFO")
    (given,) = write_package(tmp_path, "potsdam", ["2_10"], layers=("irrg", "absolute", "label"), no_crs=True)
    tree = run(data(path=str(given), image="irrg"), SAMPLE, raw)
    assert tree == read_raw_tree(raw)
    assert tree.dataset.crs == "EPSG:32633" and tree.dataset.image.bands[0] == "near infrared"
    assert not (raw / "earlier.tif").exists()
    assert "image   1 of 38 tiles" in caplog.text and "incomplete: 2_10 (no eroded)" in caplog.text
    assert tree.dataset.acknowledgement in caplog.text


def test_the_sample_after_isprs_files_and_back_leaves_no_tile_of_the_other(tmp_path, raw, monkeypatch) -> None:
    monkeypatch.setattr(step, "write_city", city)
    given = write_package(tmp_path, "potsdam", ["2_10"])[0]
    for _ in range(2):
        assert list(run(data(path=str(given)), SAMPLE, raw).tiles) == ["2_10"]
        assert list(run(data(source="sample", dataset="sample", split="sample"), SAMPLE, raw).tiles) == ["7_256"]
        assert not list(raw.rglob("*.tif"))


def test_own_files_come_by_their_patterns(tmp_path, raw, monkeypatch) -> None:
    folder = tmp_path / "datasets" / "mine"
    folder.mkdir(parents=True)
    facts = yaml.safe_load((datasets.FOLDER / "potsdam" / "dataset.yaml").read_text())
    facts["image"] = {"rgb": facts["image"]["rgb"] | {"files": "**/top_potsdam_{r}_{c}_RGB.tif"}}
    facts["dsm"] = {"absolute": facts["dsm"]["absolute"] | {"files": "**/dsm_potsdam_{r:02}_{c:02}.tif"}}
    facts |= {"label": "**/top_potsdam_{r}_{c}_label.tif", "eroded": None}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(facts))
    monkeypatch.setattr(datasets, "FOLDER", tmp_path / "datasets")
    given = write_package(tmp_path, "potsdam", ["2_10", "6_7"], form="folder")[0]
    tree = run(data(source="folder", dataset="mine", path=str(given)), SAMPLE, raw)
    assert list(tree.tiles) == ["2_10", "6_7"] and tree.source == "folder"
    assert tree.tiles["2_10"]["dsm"] == "1_DSM/1_DSM/dsm_potsdam_02_10.tif"


@pytest.mark.parametrize(
    ("of_dataset", "given", "used"),
    [
        (None, None, None),
        ("EPSG:25833", None, "EPSG:25833"),
        (None, "EPSG:25833", "EPSG:25833"),
        ("EPSG:25833", "EPSG:25833", "EPSG:25833"),
        ("epsg:25833", "EPSG:25833", "epsg:25833"),
    ],
)
def test_the_crs_of_dataset_yaml_comes_before_that_of_params_yaml(
    tmp_path, raw, monkeypatch, of_dataset, given, used
) -> None:
    known = replace(datasets.dataset("potsdam"), crs=of_dataset)
    monkeypatch.setattr(datasets, "dataset", lambda *_: known)
    source = write_package(tmp_path, "potsdam", ["2_10"], no_crs=True)[0]
    assert run(data(path=str(source), crs=given), SAMPLE, raw).dataset.crs == used


def test_a_crs_that_params_yaml_contradicts_is_an_error_that_names_both(tmp_path, raw) -> None:
    source = write_package(tmp_path, "potsdam", ["2_10"])[0]
    with pytest.raises(ParamsError, match=r"^crs in .* is EPSG:32633, but data\.crs is EPSG:25833; .* remove data"):
        run(data(path=str(source), crs="EPSG:25833"), SAMPLE, raw)
    assert [path.name for path in raw.rglob("*")] == ["earlier.tif"]


@pytest.mark.parametrize(
    ("of_dataset", "given", "key"),
    [(None, "EPSG:999999", r"data\.crs"), ("UTM 33", None, r"crs in datasets/potsdam/dataset\.yaml")],
)
def test_a_crs_that_does_not_exist_is_an_error_that_names_its_key(
    tmp_path, raw, monkeypatch, of_dataset, given, key
) -> None:
    known = replace(datasets.dataset("potsdam"), crs=of_dataset)
    monkeypatch.setattr(datasets, "dataset", lambda *_: known)
    with pytest.raises(ParamsError, match=f"^{key} is '.*', not a coordinate reference system; write it like EPSG"):
        run(data(path=str(tmp_path), crs=given), SAMPLE, raw)
    assert [path.name for path in raw.rglob("*")] == ["earlier.tif"]


@pytest.mark.parametrize("source", ["isprs", "folder"])
def test_an_empty_source_leaves_the_earlier_folder_as_it_was(tmp_path, raw, source) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of potsdam|no file fits the image pattern"):
        run(data(source=source, path=str(tmp_path / "empty")), SAMPLE, raw)
    assert [path.name for path in raw.rglob("*")] == ["earlier.tif"]


def test_an_unknown_variant_is_named(tmp_path, raw) -> None:
    with pytest.raises(ParamsError, match="data.image is 'cir'; potsdam has rgb, irrg, rgbir"):
        run(data(path=str(tmp_path), image="cir"), SAMPLE, raw)


@pytest.mark.parametrize(("seed", "side_px"), [(-1, 256), (0, 255), (0, 6001)])
def test_a_sample_out_of_range_is_refused(seed: int, side_px: int) -> None:
    with pytest.raises(ParamsError, match="^sample.* is .*; expected a whole number"):
        from_mapping(SampleConfig, {"seed": seed, "side_px": side_px}, "sample")
