"""What a user can get wrong ends in one sentence, exit code 2, no traceback; the earlier outputs stay as they were."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
import rasterio


def tree(folder):
    """Every file below a folder with its checksum."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def project(tiny_project):
    """The tiny project, put back afterwards."""
    kept = {name: (tiny_project.root / name).read_text() for name in ("params.yaml",)}
    shutil.copytree(tiny_project.root / "data/raw", tiny_project.root / "raw.kept")
    yield tiny_project
    (tiny_project.root / "params.yaml").write_text(kept["params.yaml"])
    shutil.rmtree(tiny_project.root / "data/raw")
    (tiny_project.root / "raw.kept").rename(tiny_project.root / "data/raw")


def assert_refused(done, *words):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and done.stderr.splitlines()[-1] == errors[0]
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("step", "changes", "words"),
    [
        ("train", {"train": {"steps": "many"}}, ("params.yaml: train.steps is 'many'", "expected a whole number")),
        ("train", {"train": {"stepz": 3}}, ("params.yaml: train.stepz is unknown", "expected one of")),
        ("preprocess", {"preprocess": {"heights": {"scale_m": -1.0}}}, ("preprocess.heights.scale_m is -1.0",)),
        ("preprocess", {"data": {"split": "mine"}}, ("data.split is 'mine'", "sample")),
        ("acquire", {"data": {"source": "isprs", "dataset": "potsdam", "path": "nowhere.zip"}}, ("nowhere.zip",)),
    ],
)
def test_a_wrong_parameter(project, step, changes, words):
    before = tree(project.root / "data")
    project.change_params(changes)
    assert_refused(project.step(step), *words)
    assert tree(project.root / "data") == before


def test_a_missing_file(project):
    label = project.root / "data/raw/5_Labels_all/top_potsdam_3_11_label.tif"
    label.unlink()
    store = tree(project.root / "data/store")
    assert_refused(project.step("preprocess"), "3_11", "top_potsdam_3_11_label.tif")
    assert tree(project.root / "data/store") == store


def test_a_label_with_unknown_colours(project):
    label = project.root / "data/raw/5_Labels_all/top_potsdam_2_12_label.tif"
    with rasterio.open(label, "r+") as file:
        pixels = file.read()
        pixels[:, :40, :40] = np.array([200, 10, 200], np.uint8)[:, None, None]
        file.write(pixels)
    store = tree(project.root / "data/store")
    assert_refused(project.step("preprocess"), "top_potsdam_2_12_label.tif", "max_unknown_share")
    assert tree(project.root / "data/store") == store


@pytest.mark.parametrize("name", ["2_Ortho_RGB/top_potsdam_2_10_RGB.tif", "1_DSM/dsm_potsdam_02_10.tif"])
def test_a_truncated_tiff(project, name):
    path = project.root / "data/raw" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    store = tree(project.root / "data/store")
    assert_refused(project.step("preprocess"), path.name)
    assert tree(project.root / "data/store") == store


def test_a_step_before_its_input_says_which_step_to_run(tiny_project, tmp_path):
    assert_refused(tiny_project.step("train", "--store", str(tmp_path / "none")), "run the preprocess step first")
    assert_refused(tiny_project.step("evaluate", "--weights", str(tmp_path / "none")), "run the train step first")
    assert_refused(tiny_project.step("preprocess", "--raw", str(tmp_path / "none")), "acquire")
