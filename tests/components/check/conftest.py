"""Packages as unpacked from ISPRS, with one thing wrong, and the report of the check on them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from components.check import sources
from components.check.config import CheckConfig
from components.check.report import Report
from components.check.sources import open_source
from components.check.step import examine
from components.common.data import datasets
from components.common.readers.tiles import ReaderSettings
from tests.isprs_package import write_package
from tests.repo.import_graph import ROOT

TILES = ("2_10", "2_11", "2_12", "3_10", "3_11")
LIMITS = {
    "max_dsm_missing_share": 0.5,
    "max_disagreement_share": 0.01,
    "max_class_share_deviation": 1.0,
    "accept": {},
    "workers": 1,
}
READER = {"max_pad_px": 8, "max_unknown_share": 0.001}


@pytest.fixture
def config() -> Callable[..., CheckConfig]:
    def config(**changes) -> CheckConfig:
        return CheckConfig(**(LIMITS | changes))

    return config


@pytest.fixture
def package(tmp_path) -> Callable[..., Path]:
    """An unpacked package; its arguments are those of `write_package`."""

    def package(dataset="potsdam", tiles=TILES, **traps) -> Path:
        return write_package(tmp_path / "unpacked", dataset, tiles, form="folder", **traps)[0]

    return package


@pytest.fixture
def checked(config) -> Callable[..., Report]:
    """The report on a folder."""

    def checked(folder, dataset=None, split=None, own=False, **limits) -> Report:
        source = open_source(folder, dataset)
        tree = replace(source.tree, source="folder") if own else source.tree
        name = source.tree.dataset.name
        splits = (datasets.split(name, split),) if split else datasets.splits(name)
        reader = {key: limits.pop(key, value) for key, value in READER.items()}
        limits = config(**limits)
        settings = ReaderSettings(**reader, accept=limits.accepted)
        return examine(tree, splits, split is not None, limits, settings, source.findings)

    return checked


@pytest.fixture
def codes(checked) -> Callable[..., set[tuple[str, str | None]]]:
    """Code and tile of every finding, except that other tiles of the splits are missing."""

    def codes(folder, **options) -> set[tuple[str, str | None]]:
        found = checked(folder, **options).findings
        return {(one.code, one.tile) for one in found if one.code != "split-incomplete"}

    return codes


@pytest.fixture
def rewritten() -> Callable[..., Path]:
    def rewritten(folder: Path, name: str, change=lambda pixels_BHW: pixels_BHW, **profile) -> Path:
        """Rewrite the one file in a folder whose name contains `name`; None leaves a key of the profile out."""
        (path,) = [path for path in folder.rglob("*.tif") if name in path.name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                pixels_BHW = np.ascontiguousarray(change(file.read()))
                kept = {"crs": file.crs, "transform": file.transform, "nodata": file.nodata}
            bands, height, width = pixels_BHW.shape
            size = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
            profile = {key: value for key, value in (kept | size | profile).items() if value is not None}
            colours = profile.pop("colours", None)
            with rasterio.open(path, "w", driver="GTiff", **profile) as file:
                if colours:
                    file.colorinterp = colours
                file.write(pixels_BHW)
        return path

    return rewritten


@pytest.fixture
def moved(rewritten) -> Callable[..., Path]:
    def moved(folder: Path, name: str, by: Affine) -> Path:
        """Change the georeference of a file: `by` comes before it, so it counts in pixels."""
        (path,) = [path for path in folder.rglob("*.tif") if name in path.name]
        with rasterio.open(path) as file:
            transform = file.transform @ by
        return rewritten(folder, name, transform=transform)

    return moved


OWN = {
    "gsd_m": 0.2,
    "acknowledgement": "Made by a test.",
    "labels": "values",
    "classes": [
        {"name": "water", "rgb": [0, 0, 255], "in_means": True, "value": 3},
        {"name": "meadow", "rgb": [0, 255, 0], "in_means": True, "value": 9},
    ],
    "class_shares": None,
    "label": "labels/{tile}.tif",
    "eroded": None,
}
BANDS = ["red", "green", "blue", "near infrared"]


@pytest.fixture
def own_data(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Two tiles of a data set of one's own, called `mine`: four bands, labels by value, 16 bit heights."""

    def own_data(*, crs="EPSG:25832", relative_to="datum", range=(0, 255), relief_m=30, mosaic=False) -> Path:
        folder, facts = tmp_path / "own", tmp_path / "datasets"
        shutil.copytree(ROOT / "datasets", facts, dirs_exist_ok=True)
        monkeypatch.setattr(datasets, "FOLDER", facts)
        monkeypatch.setattr(sources, "FOLDER", facts)
        datasets.tiles.cache_clear()
        image = {
            "files": "images/{tile}.tif",
            "bands": BANDS,
            "range": list(range),
            "mean": [0.5] * 4,
            "std": [0.2] * 4,
        }
        dsm = {"files": "all.tif" if mosaic else "h/h_{tile}.tif", "unit_m": 1.0, "relative_to": relative_to}
        dataset = OWN | {"crs": crs, "image": {"nir": image}, "dsm": {"heights": dsm}}
        (facts / "mine").mkdir(exist_ok=True)
        (facts / "mine/dataset.yaml").write_text(yaml.safe_dump(dataset))
        (facts / "mine/half.yaml").write_text("train: [a]\nval: []\ntest: [b]\n")
        for number, tile in enumerate("ab"):
            _write_own(folder, tile, number, relief_m, mosaic)
        return folder

    yield own_data
    datasets.tiles.cache_clear()


def _write_own(folder: Path, tile: str, number: int, relief_m: float, mosaic: bool) -> None:
    rng = np.random.default_rng(number)
    label = (rng.random((48, 64)) > 0.5).astype(int)
    image = rng.integers(1, 250, (4, 48, 64), dtype=np.uint8)
    image[3] = 100 + 100 * label
    heights = (200 + np.linspace(0, relief_m, 48)[:, None] + rng.random((48, 64))).astype(np.int16)
    layers = {f"images/{tile}.tif": image, f"labels/{tile}.tif": np.array([3, 9], np.uint8)[label][None]}
    layers["all.tif" if mosaic else f"h/h_{tile}.tif"] = np.tile(heights, 3)[None] if mosaic else heights[None]
    for name, pixels in layers.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        bands, height, width = pixels.shape
        place = Affine(0.2, 0, 500000 if name == "all.tif" else 500000 + 12.8 * number, 0, -0.2, 5800000)
        profile = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype, "transform": place}
        with rasterio.open(folder / name, "w", driver="GTiff", crs="EPSG:25832", **profile) as file:
            file.write(pixels)
