"""docs/your_own_data.md, done word for word; then the same with four bands of 16 bits and labels as numbers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from components.common.data.store import Store
from components.common.inference.modelfile import load_model
from tests.e2e.conftest import TINY, Project, copy_project

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/your_own_data.md").read_text()
FILES = dict(re.findall(r"`([\w./]+)`[^`]*?:\n\n```yaml\n(.*?)```", PAGE, flags=re.S))
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S)[0].replace(".venv/bin/", "")
PALETTE = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]


@pytest.fixture
def walked(tiny_project, tmp_path) -> Project:
    """A project in which the page was followed up to its step 3."""
    project = copy_project(tmp_path / "project")
    project.change_params(TINY)
    shutil.copytree(tiny_project.root / "data/raw", project.root / "data/raw")
    done = project.call("bash", "-euc", COMMANDS)
    assert done.returncode == 0, done.stderr
    for name, content in FILES.items():
        if name.startswith("datasets/"):
            (project.root / name).parent.mkdir(exist_ok=True)
            (project.root / name).write_text(content)
    project.change_params(yaml.safe_load(FILES["params.yaml"]))
    return project


def go(project: Project, *steps: str) -> None:
    for step in steps:
        done = project.step(step)
        assert done.returncode == 0, f"{step}: {done.stderr}"


def test_the_page_names_every_file_that_it_needs():
    assert set(FILES) == {"datasets/mytown/dataset.yaml", "datasets/mytown/east.yaml", "params.yaml"}
    assert all(shlex.split(line) for line in COMMANDS.splitlines())


@pytest.mark.system
def test_following_the_page_gives_a_model_of_ones_own_data(walked, tiny_project):
    go(walked, "acquire", "check", "preprocess")
    store, sample = Store(walked.root / "data/store"), Store(tiny_project.root / "data/store")
    assert store.manifest.classes == ("sealed", "roof", "lawn", "tree", "car", "other")
    for entry, original in zip(store.manifest.tiles, sample.manifest.tiles, strict=True):
        assert (entry.id, entry.subset) == (original.id, original.subset)
        assert any("warped" in note for note in entry.notes)
        ours, theirs = store[entry], sample[original]
        np.testing.assert_array_equal(ours.image_HWC, theirs.image_HWC)
        np.testing.assert_array_equal(ours.label_HW, theirs.label_HW)
        assert np.isfinite(ours.dsm_HW).mean() > 0.95
        assert np.nanmedian(abs(ours.dsm_HW - theirs.dsm_HW)) < 0.02  # of 10 m: half the cells, another grid
        assert (ours.eroded_HW == theirs.eroded_HW).mean() > 0.99  # made here, given there
    hidden = [walked.root / "data/store" / entry.file for entry in store.manifest.subset("test")]
    for tile in hidden:
        tile.rename(tile.with_suffix(".away"))
    go(walked, "train")  # reads no test tile
    for tile in hidden:
        tile.with_suffix(".away").rename(tile)
    go(walked, "evaluate")
    assert json.loads((walked.root / "reports/evaluation.json").read_text())["protocol"]["dataset"] == "mytown"


@pytest.mark.system
def test_four_bands_of_16_bits_and_labels_as_numbers_train_a_network_of_four_bands(walked):
    town = walked.root / "data/mytown"
    for path in town.glob("*_RGB.tif"):
        with rasterio.open(path) as file:
            profile, rgb_BHW = file.profile, file.read()
        bands_BHW = np.concatenate([rgb_BHW, rgb_BHW[1:2]]).astype(np.uint16) * 16
        with rasterio.open(path, "w", **profile | {"count": 4, "dtype": "uint16", "photometric": "MINISBLACK"}) as file:
            file.write(bands_BHW)
    for path in town.glob("*_label.tif"):
        with rasterio.open(path) as file:
            profile, rgb_BHW = file.profile, file.read()
        values_HW = np.zeros(rgb_BHW.shape[1:], np.uint8)
        for number, colour in enumerate(PALETTE, start=1):
            values_HW[(rgb_BHW == np.array(colour)[:, None, None]).all(0)] = number
        with rasterio.open(path, "w", **profile | {"count": 1, "photometric": "MINISBLACK"}) as file:
            file.write(values_HW[None])
    path = walked.root / "datasets/mytown/dataset.yaml"
    facts = yaml.safe_load(path.read_text())
    facts["labels"] = "values"
    for number, known in enumerate(facts["classes"], start=1):
        known["value"] = number
    four = {"bands": ["red", "green", "blue", "near infrared"], "range": [0, 4080]}
    facts["image"]["ours"] |= four | {"mean": [0.4] * 4, "std": [0.2] * 4}
    path.write_text(yaml.safe_dump(facts))
    go(walked, "acquire", "check", "preprocess", "train", "evaluate", "export")
    store = Store(walked.root / "data/store")
    assert store[store.manifest.tiles[0]].image_HWC.shape == (256, 256, 4)
    assert sum(store.manifest.tiles[0].class_px) > 60_000
    network, model_facts = load_model(walked.root / "models/best.safetensors")
    assert network.encoder.image_patch_embedding.in_channels == 4
    assert (model_facts.bands[3], model_facts.image_range) == ("near infrared", (0, 4080))
