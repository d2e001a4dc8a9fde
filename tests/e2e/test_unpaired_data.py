"""A data set in which a third of the tiles lack the DSM and one lacks the image, from its files to a map.

Its files are those of the generated city. All steps run as stages of dvc.yaml do, and as tasks of the Kubeflow graph.
"""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pytest
import rasterio
import yaml

from components.acquire.sample.city import write_city
from components.common.data import datasets
from components.common.data.store import Store
from tests.e2e.conftest import TINY, copy_project

pytestmark = pytest.mark.system

SIDE_PX = 256
SPLIT = datasets.split("sample", "sample")
NO_DSM, NO_IMAGE = ("2_11", "4_11", "5_11"), ("2_12",)
STAGES = ("acquire", "check", "preprocess", "train", "evaluate", "export", "register", "predict")
RUN = ("python", "-m", "pipeline", "pipeline", "run", "--runner", "subprocess")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of a user: the files of the city, without some of them."""
    folder = tmp_path_factory.mktemp("files")
    tree = write_city(5, SIDE_PX, SPLIT.tiles, folder)
    for tiles, kind in ((NO_DSM, "dsm"), (NO_IMAGE, "image")):
        for tile in tiles:
            tree.file(tile, kind).unlink()
    (folder / "dataset.json").unlink()
    return folder


@pytest.fixture(scope="module")
def project(files, tmp_path_factory):
    """The project with these files as the data set `town`."""
    made = copy_project(tmp_path_factory.mktemp("unpaired") / "project")
    (made.root / "datasets/town").mkdir()
    for source, target in (("dataset", "dataset"), ("sample", "town")):
        text = (made.root / f"datasets/sample/{source}.yaml").read_text()
        (made.root / f"datasets/town/{target}.yaml").write_text(text)
    made.change_params(TINY | {"data": {"source": "folder", "dataset": "town", "split": "town", "path": str(files)}})
    made.env |= {"TMPDIR": str(tmp_path_factory.mktemp("tmp")), "OMP_NUM_THREADS": "1"}
    return made


@pytest.fixture(scope="module")
def ran(project):
    """The project after all stages, and what each wrote to its log."""
    logs = {}
    for stage in STAGES:
        done = project.step(stage)
        assert done.returncode == 0, f"{stage}: {done.stderr[-4000:]}"
        logs[stage] = done.stderr
    return project, logs


def record(project, name):
    return json.loads((project.root / name).read_text())


def test_the_check_counts_the_sensors_and_warns(ran):
    project, logs = ran
    report = record(project, "reports/data_check.json")
    assert report["coverage"] == {
        "train": {"tiles": 6, "image": 5, "dsm": 5, "both": 4},
        "val": {"tiles": 2, "image": 2, "dsm": 1, "both": 1},
        "test": {"tiles": 2, "image": 2, "dsm": 1, "both": 1},
    }
    assert report["counts"]["error"] == 0
    assert "train: 5 of 6 tiles have a DSM; without: 2_11" in logs["check"]
    assert "train: 5 of 6 tiles have an image; without: 2_12" in logs["check"]


def test_the_store_says_which_sensors_a_tile_has(ran):
    store = Store(ran[0].root / "data/store")
    sensors = {entry.id: entry.sensors for entry in store.manifest.tiles}
    assert {tile for tile, there in sensors.items() if there == ("rgb",)} == set(NO_DSM)
    assert {tile for tile, there in sensors.items() if there == ("dsm",)} == set(NO_IMAGE)
    entries = {entry.id: entry for entry in store.manifest.tiles}
    assert np.isnan(store[entries["2_11"]].dsm_HW).all()
    assert (store[entries["2_12"]].label_HW < 6).any() and not store[entries["2_12"]].image_HWC.any()


def test_a_tile_is_scored_under_the_conditions_whose_sensors_it_has(ran):
    scores = record(ran[0], "reports/evaluation.json")
    assert scores["protocol"]["tiles_by_condition"] == {"rgb+dsm": ["5_10"], "rgb": ["5_10", "5_11"], "dsm": ["5_10"]}
    assert set(scores["scores"][scores["protocol"]["ground_truth"]]) == {"rgb+dsm", "rgb", "dsm"}
    assert "5_11" in (ran[0].root / "reports/report.html").read_text()


def test_the_package_has_crops_with_both_sensors_and_is_registered(ran):
    project, _ = ran
    assert (project.root / "package/reference.json").stat().st_size > 0
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    assert [str(version.version) for version in client.search_model_versions("name='mobanet'")] == ["1"]


def test_the_map_covers_a_tile_without_a_dsm(ran):
    with rasterio.open(ran[0].root / "maps/town.tif") as file:
        classes_HW = file.read(1)
    assert classes_HW.shape == (SIDE_PX, 2 * SIDE_PX)
    assert (classes_HW < 6).all()  # 5_10 on the left, 5_11 on the right


def test_the_graph_for_kubeflow_runs_it_too(project, tmp_path):
    done = project.call(*RUN, "--out", str(tmp_path / "kubeflow"))
    assert done.returncode == 0, done.stderr[-6000:]
    (found,) = (tmp_path / "kubeflow").glob("**/evaluate/evaluation")
    assert json.loads(found.read_text())["protocol"]["tiles_by_condition"]["rgb"] == ["5_10", "5_11"]
    assert "train: 5 of 6 tiles have a DSM; without: 2_11" in done.stderr


def test_a_file_that_is_damaged_stops_the_pipeline(project, files, tmp_path):
    copy = tmp_path / "files"
    copy.mkdir()
    for path in files.rglob("*.tif"):
        target = copy / path.relative_to(files)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes()[: 5000 if path.name == "dsm_potsdam_02_10.tif" else None])
    params = project.root / "params.yaml"
    given = yaml.safe_load(params.read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(given | {"data": given["data"] | {"path": str(copy)}}))
    where = ("--params", str(tmp_path / "params.yaml"), "--raw", str(tmp_path / "raw"))
    done = project.step("acquire", *where)
    assert done.returncode == 0 and "left out: files/1_DSM/dsm_potsdam_02_10.tif" in done.stderr
    done = project.step("check", *where, "--report", str(tmp_path / "report.json"))
    assert done.returncode == 2
    assert "the dsm of the tile cannot be read and was left out by the import" in done.stderr
