"""The prediction graph maps scenes: as processes and in containers, byte-equal to `mobanet predict`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import docker
import numpy as np
import pystac
import pytest
import rasterio
from rasterio import Affine

from components.common.inference.modelfile import save_model
from model import MoBaNet, MoBaNetConfig
from pipeline.containers import LABEL
from tests.components.conftest import toy_facts
from tests.e2e.conftest import Project, copy_project, s3_server

pytestmark = pytest.mark.system

RUN = ("python", "-m", "pipeline", "pipeline", "run", "predict")
MAP = ("python", "-m", "pipeline", "predict", "--model", "toy.safetensors", "--sensors")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The project with a toy network, two images, one of them in two files, and one DSM for both."""
    project = copy_project(tmp_path_factory.mktemp("predict"))
    project.env |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}
    config = MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64}, decoder_channels=16)
    save_model(project.root / "toy.safetensors", MoBaNet(config).eval(), toy_facts(config))
    project.change_params({"predict": {"batch_size": 4, "block_px": 256}})
    project.root.chmod(0o755)  # containers see the folder of the files, as another user
    (project.root / "images").mkdir()
    write(project.root / "images/west.tif", 0, 90)
    write(project.root / "images/east.tif", 90, 61)
    write(project.root / "dsm.tif", 0, 151, bands=1)
    return project


def write(path: Path, column: int, width: int, bands: int = 3) -> None:
    """A piece of a scene of 101 x 151 pixels of 5 cm, from a column on."""
    pixels = np.random.default_rng(5).integers(0, 255, (bands, 101, 151)).astype("uint8" if bands == 3 else "float32")
    place = Affine(0.05, 0, 391_000 + 0.05 * column, 0, -0.05, 5_820_000)
    profile = {"driver": "GTiff", "height": 101, "width": width, "count": bands, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=place) as file:
        file.write(pixels[..., column : column + width] / (1 if bands == 3 else 25))


def settings(*changes: str, parts: int = 3) -> list[str]:
    given = ("model=toy.safetensors", "dsm=dsm.tif", f"parts={parts}", "extras=sensors", *changes)
    return [word for change in given for word in ("--set", change)]


@pytest.fixture(scope="module")
def expected(project) -> bytes:
    """The map of the mosaic of both images by one command."""
    images = ("--image", "images/west.tif", "--image", "images/east.tif")
    done = project.call(*MAP, *images, "--dsm", "dsm.tif", "--output", "expected/city.tif")
    assert done.returncode == 0, done.stderr[-4000:]
    return (project.root / "expected/city.tif").read_bytes()


CITY = json.dumps({"city": ["images/west.tif", "images/east.tif"]})


@pytest.fixture(scope="module")
def ran(project):
    """The graph as processes."""
    done = project.call(*RUN, "--runner", "subprocess", *settings(f"image={CITY}", "output=maps"))
    assert done.returncode == 0, done.stderr[-6000:]
    return project.root / "maps/city"


def test_parts_of_a_mosaic_combined_are_byte_equal_to_the_map_of_one_command(ran, expected):
    assert (ran / "city.tif").read_bytes() == expected


def test_a_scene_is_published_with_its_layers_style_item_page_and_summary(ran):
    item = pystac.Item.from_file(ran / "city.json")
    assert {"classes", "sensors", "summary", "page"} <= item.assets.keys()
    assert all((ran / asset.href).is_file() for asset in item.assets.values())
    assert (ran / "city.html").read_text().startswith("<!doctype html>")


def test_item_and_page_are_artifacts_and_the_workspace_is_gone(ran, project):
    (page,) = project.root.glob("reports/kubeflow/mobanet-predict-*/for-loop-*/publish/page")
    assert page.read_text() == (ran / "city.html").read_text()
    assert not list(Path(project.env["TMPDIR"]).glob("mobanet-workspace-*"))


def test_a_raster_that_does_not_exist_ends_the_run_at_once_with_its_name(project):
    done = project.call(*RUN, "--runner", "subprocess", *settings("image=images/north.tif", "output=none"))
    assert done.returncode == 2
    assert "north.tif" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the step plan failed, see its log above")


def test_a_prefix_of_a_bucket_is_mapped_to_a_bucket(project, tmp_path):
    (tmp_path / "city/images").mkdir(parents=True)
    for name in ("west.tif", "east.tif"):
        (tmp_path / "city/images" / name).write_bytes((project.root / "images" / name).read_bytes())
    with s3_server(tmp_path, "key", "secret") as port:
        address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        before = dict(project.env)
        project.env |= address | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        changes = settings("image=s3://city/images", "output=s3://city/maps", parts=1)
        done = project.call(*RUN, "--runner", "subprocess", *changes)
        project.env = before
    assert done.returncode == 0, done.stderr[-6000:]
    for name in ("west", "east"):
        found = {path.name for path in (tmp_path / "city/maps" / name).iterdir()}
        assert {f"{name}.tif", f"{name}.json", f"{name}.html", f"{name}_sensors.tif"} <= found


@pytest.mark.skipif("DOCKER_HOST" not in os.environ, reason="no container engine; see .ci/containers")
def test_containers_give_the_same_bytes_and_leave_none_behind(project, expected):
    done = project.call(*RUN, "--runner", "docker", *settings(f"image={CITY}", "output=contained"))
    assert done.returncode == 0, done.stderr[-6000:]
    assert (project.root / "contained/city/city.tif").read_bytes() == expected
    engine = docker.from_env()
    out = project.root / "reports/kubeflow"
    assert not engine.containers.list(all=True, filters={"label": f"{LABEL}={out}"}, sparse=True)
    engine.close()
