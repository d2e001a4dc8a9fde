"""Maps killed by SIGKILL at random moments, also while files get their names, and started again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from components.common.files import digest
from tests.components.predict.rasters import image_of, write

pytestmark = pytest.mark.system

TRIALS = 30
SIDES = 600, 500
DEADLINE_S = 120
OUTPUTS = ("map.tif", "map_confidence.tif", "map_sensors.tif", "map.gpkg", "map.json", "map.qml")


def make(folder: Path, image: str, dsm: str) -> None:
    """One command, in a process that has torch imported already; every band of rows goes to the journal."""
    import torch

    from components.predict.config import Polygons, PredictConfig, PredictRequest
    from components.predict.outputs import working
    from components.predict.step import make_map
    from tests.components.predict.known import KnownPredictor

    torch.set_num_threads(1)
    working.COMMIT_S = 0.0
    config = PredictConfig(
        tiles=None, window_px=None, overlap=0.25, batch_size=4, precision="auto", block_px=256, min_agreement=None
    )
    request = PredictRequest(
        image=(image,),
        dsm=(dsm,),
        output=folder / "map.tif",
        extras=frozenset({"confidence", "sensors"}),
        polygons=Polygons(path=folder / "map.gpkg"),
        summary=folder / "map.json",
    )
    make_map(config, request, KnownPredictor(window_px=64))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A function that starts a command for a folder."""
    folder = tmp_path_factory.mktemp("inputs")
    height, width = SIDES
    classes = np.kron(image_of(height // 20, width // 20), np.ones((20, 20, 1), np.uint8))  # few polygons
    dsm = np.random.default_rng(1).uniform(30, 40, SIDES).astype(np.float32)
    names = write(folder / "image.tif", classes), write(folder / "dsm.tif", dsm)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "rasterio", "geopandas", "components.predict.step"])

    def start(target: Path):
        target.mkdir(exist_ok=True)
        process = context.Process(target=make, args=(target, *names))
        process.start()
        return process

    return start


def finish(process) -> None:
    process.join(DEADLINE_S)
    assert process.exitcode == 0


def digests(folder: Path) -> dict[str, str]:
    return {name: digest(folder / name) for name in OUTPUTS}


def test_a_killed_map_continues_and_ends_byte_equal_and_no_partial_file_has_its_final_name(started, tmp_path):
    finish(started(tmp_path / "warm"))
    begin = time.monotonic()
    finish(started(tmp_path / "whole"))
    duration_s = time.monotonic() - begin
    whole, rng, kills, continued = digests(tmp_path / "whole"), random.Random(0), 0, 0
    for trial in range(TRIALS):
        folder = tmp_path / f"trial{trial}"
        process = started(folder)
        process.join(rng.uniform(0.05, duration_s))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            duration_s *= 0.8  # it ended first, because the machine is faster now than when the map was timed
        for name in OUTPUTS:
            if (folder / name).exists():
                assert digest(folder / name) == whole[name], f"{name} of trial {trial} is not complete"
        continued += (folder / ".map.tif.part/journal.jsonl").exists()
        finish(started(folder))
        assert digests(folder) == whole
        assert not list(folder.glob(".*.part"))
    assert kills > TRIALS * 2 / 3 and continued > TRIALS / 4
