"""Memory of predict against the size of the raster: one process per raster, with a network that costs almost nothing.

In: sizes. Out: peak memory and speed of each. `python -m pipeline.bench.predict_memory` maps one generated raster, from
disk to GeoTIFF, and prints its figures as JSON, so that nothing else counts in the memory of the process.
Letters: C bands, H W pixels of a window.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio import Affine
from rasterio.windows import Window
from torch import Tensor

from components.common.data import datasets
from components.common.data.store import Heights
from components.common.errors import MobanetError
from components.common.inference.modelfile import ModelFacts
from components.common.params import section
from components.common.pool import cores
from components.common.predictors.predictor import Maps, ModelIdentity
from components.predict.config import PredictConfig, PredictRequest
from components.predict.step import make_map
from model import MoBaNetConfig
from model.speed import Precision
from pipeline.bench.memory import MB

TILE_PX = 512
GSD_M = 0.05
WINDOW_PX = 256
"""Side of a window of the network that costs almost nothing."""

SIZES = ((3000, 3000), (12_000, 12_000), (24_000, 24_000), (96_000, 3000), (3000, 96_000))
"""Height and width of the rasters, pixels."""

LARGE = (48_000, 48_000)


@dataclass(frozen=True, slots=True)
class Mapped:
    """Figures of one process that mapped one raster."""

    height_px: int
    width_px: int
    peak_mb: float  # peak of the resident memory of the process, including mapped files
    seconds: float  # from opening the raster to the finished GeoTIFF
    megapixels_per_s: float
    waited_share: float  # share of the computation in which the network waited for input, 0..1


class CheapNetwork:
    """A predictor that costs almost nothing: three classes are the bands, three their opposites."""

    identity = ModelIdentity("bench", None, "0" * 64)
    device = torch.device("cpu")
    window_px, patch_size, fixed_window, has_gates = WINDOW_PX, 1, False, False
    by_condition = False
    precision: Precision = "float32"

    def __init__(self) -> None:
        """Use the facts of a model of the sample."""
        self.facts = facts_of_sample(MoBaNetConfig(), WINDOW_PX)

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        """Logits `[B, 6, H, W]` of an image `[B, 3, H, W]`; the heights `[B, 1, H, W]` are ignored."""
        assert image_BCHW is not None
        shade_BCHW = image_BCHW.nan_to_num() / 64
        return Maps(torch.cat([shade_BCHW, 4 - shade_BCHW], dim=1), None)


def facts_of_sample(network: MoBaNetConfig, window_px: int) -> ModelFacts:
    """Facts of a network that could have been trained on the sample."""
    sample = datasets.dataset("sample")
    return ModelFacts(
        network=network,
        classes=tuple(c.name for c in sample.classes),
        in_means=tuple(c.in_means for c in sample.classes),
        palette=tuple(c.rgb for c in sample.classes),
        bands=sample.image.bands,
        image_range=sample.image.range,
        gsd_m=GSD_M,
        heights=Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"),
        image_mean=sample.image.mean,
        image_std=sample.image.std,
        window_px=window_px,
        dataset=sample.name,
        source="sample",
        split="bench",
        acknowledgement=sample.acknowledgement,
        data_md5="0" * 32,
        git_commit="unknown",
        tool_version="bench",
        step=0,
        seed=0,
        validation={},
    )


def make_rasters(folder: Path, height_px: int, width_px: int) -> tuple[Path, Path]:
    """Write an image and heights as tiled, compressed GeoTIFFs that repeat one tile; return their paths."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(20, 236, (3, 16, 16), dtype=np.uint8)
    image = np.repeat(np.repeat(coarse, TILE_PX // 16, axis=1), TILE_PX // 16, axis=2)
    heights = 40 + np.where(image[:1] > 180, np.float32(8), np.float32(0.2))
    paths = folder / "image.tif", folder / "dsm.tif"
    for path, tile in zip(paths, (image, heights), strict=True):
        _write(path, tile, height_px, width_px)
    return paths


def _write(path: Path, tile_CHW: np.ndarray[Any, Any], height_px: int, width_px: int) -> None:
    band_CHW = np.tile(tile_CHW, (1, 1, -(-width_px // TILE_PX)))[:, :, :width_px]
    size = {"height": height_px, "width": width_px, "count": len(tile_CHW), "dtype": tile_CHW.dtype}
    tiles = {"tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX, "interleave": "pixel"}
    place = {"crs": "EPSG:32633", "transform": Affine(GSD_M, 0, 366_000, 0, -GSD_M, 5_807_000)}
    packed = {"compress": "zstd", "zstd_level": 1, "num_threads": cores(), "bigtiff": "if_safer"}
    with rasterio.open(path, "w", "GTiff", **size, **tiles, **place, **packed) as file:
        for top in range(0, height_px, TILE_PX):
            rows = min(TILE_PX, height_px - top)
            file.write(band_CHW[:, :rows], window=Window(0, top, width_px, rows))


def measure(folder: Path, params: Path, sizes: Sequence[tuple[int, int]]) -> Iterator[Mapped]:
    """Generate a raster of each size in `folder`, map it in a process of its own, and delete it.

    Raises:
        MobanetError: a process failed.
    """
    for height_px, width_px in sizes:
        room = folder / f"{height_px}x{width_px}"
        room.mkdir()
        paths = make_rasters(room, height_px, width_px)
        command = [sys.executable, "-m", __name__, str(room), str(params), str(height_px), str(width_px)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise MobanetError(f"mapping {height_px} x {width_px} px failed: {last}")
        for path in (*paths, room / "map.tif"):
            path.unlink()
        yield Mapped(**json.loads(done.stdout.splitlines()[-1]))


def spread(mapped: Sequence[Mapped]) -> float:
    """Difference between the largest and the smallest peak, divided by the largest, 0..1."""
    peaks = [figures.peak_mb for figures in mapped]
    return (max(peaks) - min(peaks)) / max(peaks)


def _map_one(folder: Path, params: Path, height_px: int, width_px: int) -> Mapped:
    request = PredictRequest(
        image=(str(folder / "image.tif"),), dsm=(str(folder / "dsm.tif"),), output=folder / "map.tif"
    )
    start = time.perf_counter()
    result = make_map(section(params, "predict", PredictConfig), request, CheapNetwork())
    seconds = time.perf_counter() - start
    speed = height_px * width_px / 1e6 / seconds
    return Mapped(height_px, width_px, _peak_bytes() / MB, seconds, speed, result.waited_share)


def _peak_bytes() -> int:
    """Peak of this process's resident memory. `getrusage` would include the process that started this one."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    place, file, height, width = sys.argv[1:]
    print(json.dumps(asdict(_map_one(Path(place), Path(file), int(height), int(width)))))
