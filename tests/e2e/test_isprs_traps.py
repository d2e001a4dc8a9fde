"""Archives in the ISPRS layout with every known trap, through the real doors: acquire, check, preprocess, train."""

from __future__ import annotations

import json

import numpy as np
import pytest

from components.common.data import datasets
from components.common.data.store import Store
from components.common.inference.modelfile import load_model
from tests.e2e.conftest import TINY, Project, copy_project
from tests.isprs_package import PALETTE, REAL_POTSDAM_TRAPS, scene, write_package

SIDE_PX = 96
TRAPS = REAL_POTSDAM_TRAPS | {
    "dsm_untagged": ("3_10",),
    "unknown_px": {"3_11": 5},  # under preprocess.max_unknown_share
    "georeference": "apart",
    "renamed_folders": True,
    "twice": ("5_10",),
    "deflated_outside": True,
}


@pytest.fixture
def project(tmp_path) -> Project:
    made = copy_project(tmp_path / "project")
    made.change_params(TINY)
    return made


def choose(project: Project, dataset: str, split: str, downloads) -> None:
    data = {"source": "isprs", "dataset": dataset, "split": split, "path": str(downloads)}
    project.change_params({"data": data, "check": {"workers": 1}, "preprocess": {"workers": 1}})


def go(project: Project, *steps: str) -> None:
    for step in steps:
        done = project.step(step)
        assert done.returncode == 0, f"{step}: {done.stderr}"


def findings(project: Project) -> dict[str, set[str]]:
    """Code -> tiles."""
    found: dict[str, set[str]] = {}
    for one in json.loads((project.root / "reports/data_check.json").read_text())["findings"]:
        found.setdefault(one["code"], set()).add(one["tile"])
    return found


def truth(dataset: str, tile: str, layer: str) -> np.ndarray:
    """Classes of a label as drawn, before any trap; 255 for black."""
    picture_BHW = scene(dataset, tile, SIDE_PX)[layer]
    classes_HW = np.full(picture_BHW.shape[1:], 255, np.uint8)
    for label, colour in enumerate(PALETTE):
        classes_HW[(picture_BHW == np.array(colour)[:, None, None]).all(0)] = label
    return classes_HW


@pytest.mark.system
def test_potsdam_with_every_trap_of_the_real_package_becomes_a_store_that_trains(project, tmp_path):

    tiles = datasets.split("potsdam", "official").tiles
    write_package(tmp_path / "downloads", "potsdam", tiles, side_px=SIDE_PX, **TRAPS)
    choose(project, "potsdam", "official", tmp_path / "downloads")
    go(project, "acquire", "check", "preprocess")
    found = findings(project)
    assert found["colours-snapped"] >= {"4_12", "6_7"}
    assert found["padded"] == {"3_13"}
    assert found["dsm-holes"] >= {"2_10", "2_11", "3_10"}
    assert found["dsm-outliers"] >= {"2_12"}
    assert found["colours-unknown"] == {"3_11"}
    assert found["wrongly-annotated"] == {"7_10"}
    store = Store(project.root / "data/store")
    entries = {entry.id: entry for entry in store.manifest.tiles}
    assert tuple(entries) == tiles
    for tile, entry in entries.items():
        label_HW, eroded_HW = truth("potsdam", tile, "label"), truth("potsdam", tile, "eroded")
        if tile == "3_11":
            label_HW.flat[:5] = 255
        np.testing.assert_array_equal(store[entry].label_HW, label_HW, tile)
        np.testing.assert_array_equal(store[entry].eroded_HW, eroded_HW, tile)
        np.testing.assert_array_equal(
            np.moveaxis(store[entry].image_HWC, -1, 0), scene("potsdam", tile, SIDE_PX)["rgb"]
        )
    assert entries["4_12"].snapped_px > SIDE_PX**2 // 2
    assert any("padded 1 px at the right" in note for note in entries["3_13"].notes)
    for tile in ("2_10", "2_11", "3_10"):
        assert np.isnan(store[entries[tile]].dsm_HW[8:16, 8:16]).all()
        assert entries[tile].dsm_missing_share == 64 / SIDE_PX**2
    assert np.nanmax(abs(store[entries["2_12"]].dsm_HW)) <= 2.0  # outliers are limited and set no scale
    go(project, "train")
    _, facts = load_model(project.root / "models/best.safetensors")
    assert (facts.dataset, facts.split, facts.bands) == ("potsdam", "official", ("red", "green", "blue"))


def test_vaihingen_with_world_files_apart_keeps_its_bands_and_its_acknowledgement(project, tmp_path):

    tiles = datasets.split("vaihingen", "ssrs").tiles
    write_package(tmp_path / "downloads", "vaihingen", tiles, side_px=SIDE_PX, georeference="apart", lossy=("3",))
    choose(project, "vaihingen", "ssrs", tmp_path / "downloads")
    go(project, "acquire", "check", "preprocess", "train")
    store = Store(project.root / "data/store")
    for entry in store.manifest.tiles:
        np.testing.assert_array_equal(store[entry].label_HW, truth("vaihingen", entry.id, "label"), entry.id)
        assert entry.crs == "EPSG:32632"
    _, facts = load_model(project.root / "models/best.safetensors")
    assert facts.bands == ("near infrared", "red", "green")
    assert "Cramer, 2010" in facts.acknowledgement


@pytest.mark.parametrize(
    ("trap", "code"),
    [
        ({"dsm_blank": ("6_10",)}, "dsm-constant"),
        ({"missing": (("6_10", "label"),)}, "file-missing"),
        ({"truncated": (("6_10", "dsm"),)}, "file-missing"),  # import leaves out what cannot be read
        ({"swapped": ("6_10",)}, "image-is-label"),
        ({"dsm_short": {"6_10": 40}}, "grid-mismatch"),
        ({"copies": {"7_10": "6_10"}}, "duplicate"),
        ({"same_place": {"6_10": "4_10"}}, "overlap-large"),  # a training tile on a test tile
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_mended_stops_the_pipeline_with_one_sentence(project, tmp_path, trap, code):

    tiles = datasets.split("potsdam", "ssrs").tiles
    write_package(tmp_path / "downloads", "potsdam", tiles, side_px=SIDE_PX, **trap)
    choose(project, "potsdam", "ssrs", tmp_path / "downloads")
    go(project, "acquire")
    done = project.step("check")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    assert findings(project)[code] <= {"6_10", "7_10"}  # of two equal tiles the later one is named
