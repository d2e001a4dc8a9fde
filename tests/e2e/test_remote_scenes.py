"""Rasters on a real S3 server (rclone) that drops connections and is busy: the same pixels as from disk."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

import numpy as np
import pytest
from rasterio import Affine

from components.common.errors import DataError
from components.common.files import digest
from components.common.rasterfiles import servers
from components.common.rasterfiles.source_files import open_source
from components.predict.config import PredictConfig, PredictRequest
from components.predict.inputs.suitability import CHECKS
from components.predict.step import make_map
from tests.components.common.readers.conftest import HERE, write
from tests.components.predict.known import KnownPredictor
from tests.e2e.conftest import s3_server
from tests.e2e.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.system

SIDE = 1500
FAULTS = ("busy", "dropped", "download cut", "lie")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Folder of a bucket with two files of a mosaic, and the port of its server."""
    folder = tmp_path_factory.mktemp("s3")
    random = np.random.default_rng(0)
    for n in (0, 1):
        pixels = random.integers(0, 255, (3, SIDE, SIDE), np.uint8)
        place = {"crs": "EPSG:32633", "transform": HERE @ Affine.translation(n * (SIDE - 100), 0)}
        tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
        hidden = pixels[0] < 20
        write(folder / "bucket" / "scene" / f"{n}.tif", pixels, hidden_HW=hidden, own_mask=n == 0, **place, **tiled)
    shutil.copy(folder / "bucket/scene/0.tif", folder / "bucket/other.tif")
    with s3_server(folder, "key", "secret") as port:
        yield folder / "bucket", port


@pytest.fixture
def account(bucket, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket[1]}")
    monkeypatch.setattr(servers, "PAUSES_S", (0.01, 0.1))


def blocks(*names):
    """Pixels and mask of a scene, read in blocks."""
    with ExitStack() as stack:
        file = open_source(names, stack)
        parts = []
        for top in range(0, file.header.height_px, 512):
            for left in range(0, file.header.width_px, 512):
                window = slice(top, top + 512), slice(left, left + 512)
                parts.append((file.read((1, 2, 3), *window), file.hidden((1, 2, 3), *window)))
        return parts


@pytest.mark.parametrize("names", [("scene/0.tif",), ("scene/*.tif",)], ids=["file", "mosaic"])
def test_a_scene_behind_a_bad_network_has_the_pixels_that_it_has_on_disk(bucket, account, monkeypatch, names):
    with FaultyProxy(bucket[1], share=0.3, kinds=FAULTS, seed=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        remote = blocks(*(f"s3://bucket/{name}" for name in names))
    assert sum(proxy.done.values()) >= 5
    local = blocks(*(str(bucket[0] / name) for name in names))
    assert len(remote) == len(local)
    for one, other in zip(remote, local, strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_the_map_of_a_scene_behind_a_bad_network_has_the_bytes_of_the_map_from_disk(
    bucket, account, monkeypatch, tmp_path
):
    config = PredictConfig(
        tiles=None, window_px=None, overlap=0.25, batch_size=4, precision="auto", block_px=1024, min_agreement=None
    )
    asked = {"extras": frozenset({"confidence", "sensors"}), "allow": frozenset(CHECKS)}

    def mapped(name, image):
        output = tmp_path / f"{name}.tif"
        make_map(config, PredictRequest(output=output, image=(image,), **asked), KnownPredictor(window_px=128))
        return [digest(output.with_name(f"{name}{end}.tif")) for end in ("", "_confidence", "_sensors")]

    with FaultyProxy(bucket[1], share=0.3, kinds=FAULTS, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        remote = mapped("remote", "s3://bucket/scene/*.tif")
    assert sum(proxy.done.values()) >= 5
    assert remote == mapped("local", str(bucket[0] / "scene/*.tif"))


@pytest.mark.parametrize(
    ("name", "secret", "words"),
    [
        ("s3://bucket/scene/0.tif", "guessed", "s3://bucket/scene/0.tif: the server refuses access"),
        ("s3://bucket/scene/*.tif", "guessed", "s3://bucket/scene/*.tif: the server refuses access"),
        ("s3://bucket/scene/2.tif", "secret", "s3://bucket/scene/2.tif: the server has no such file"),
        ("s3://bucket/scene/x*.tif", "secret", "s3://bucket/scene/x*.tif: no file matches"),
        ("s3://nothing/scene/0.tif", "secret", "s3://nothing/scene/0.tif: the server has no such file"),
    ],
)
def test_a_wrong_secret_or_name_is_one_sentence_at_once(account, monkeypatch, name, secret, words):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setattr(servers, "PATIENCE_S", 0)
    with pytest.raises(DataError) as caught, ExitStack() as stack:
        open_source([name], stack)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_glob_in_a_bucket_matches_within_one_folder(account, bucket):
    assert servers.matching("s3://bucket/*.tif") == ["s3://bucket/other.tif"]
    assert servers.matching("s3://bucket/*/[01].tif") == ["s3://bucket/scene/0.tif", "s3://bucket/scene/1.tif"]
