"""Speed of predict: windows per second against other loops over the same raster, and megapixels per second of a scene.

In: a model file. Out: figures. All loops slide the same network over the same windows, in rounds that alternate; the
fastest round of each counts. Letters: H W pixels of a raster.
"""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.common.inference.modelfile import ModelFacts, load_model, save_model
from components.common.inference.precision import chosen, in_precision
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Predictor
from components.common.progress import track
from components.predict.config import PredictConfig, PredictRequest
from components.predict.inputs.scene_inputs import DSM, IMAGE, Patch
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice
from components.predict.scores.meter import Meter
from components.predict.step import make_map
from model import MoBaNet, MoBaNetConfig
from model.inputs import padded_side
from model.mobanet import on_meta
from pipeline.bench.predict_memory import facts_of_sample, make_rasters
from pipeline.bench.predict_rivals import RELEASED, RIVALS, Raster, Sliding, missing
from pipeline.bench.train import ceiling_flops, require_network

OURS = "predict"
ROUNDS = 3
ROWS = 4
"""Rows of windows in the raster of the loops; a row is a full batch."""

SENSOR_ROWS = 16
"""Rows of windows in the rasters with one or both sensors: enough that the start of a raster counts little."""

BOTH = "both sensors"
SENSORS = {BOTH: IMAGE | DSM, "image only": IMAGE, "DSM only": DSM}
"""Sensors of a raster -> their bits."""

BLOCK_PX = 16
"""Side of the blocks of equal pixels in the raster of the loops."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Figures of one scene, from disk to the finished GeoTIFF."""

    side_px: int
    seconds: float
    megapixels_per_s: float
    windows_per_s: float
    waited_share: float  # share of the computation in which the device waited for input, 0..1
    gflops_per_window: float  # two per multiply-add of a forward pass; attention as plain products
    ceiling_tflops: float  # of bf16 products on this device
    of_ceiling: float  # floating point operations per second, share of the ceiling, 0..1


class ArrayInputs:
    """Pixels in memory as inputs of predict; nothing outside of the raster is asked for."""

    def __init__(self, raster: Raster, sensors: int = IMAGE | DSM) -> None:
        """Use the pixels of `raster`; `sensors` are the bits of those that it has."""
        self._raster, self._sensors = raster, sensors
        self.height_px, self.width_px = raster.size

    def read(self, rows: slice, columns: slice) -> Patch:
        """A rectangle within the raster."""
        image_HWC, dsm_HW = self._raster.image_HWC[rows, columns], self._raster.dsm_HW[rows, columns]
        return Patch(image_HWC, dsm_HW, np.full(dsm_HW.shape, self._sensors, np.uint8))


def window_of(config: PredictConfig, facts: ModelFacts) -> int:
    """Side of a window, pixels, as in predict."""
    return padded_side(config.window_px or facts.window_px, on_meta(facts.network).patch_size)


def stride_of(window_px: int, overlap: float) -> int:
    """Step between windows, pixels, as in predict."""
    return max(1, round(window_px * (1 - overlap)))


def save_random(path: Path, backbone: str, window_px: int) -> None:
    """Write a model with random weights for a timm backbone.

    Raises:
        ParamsError: the backbone does not exist.
    """
    config = MoBaNetConfig(backbone=backbone)
    require_network(config)
    torch.manual_seed(0)
    network = MoBaNet(config)
    facts = facts_of_sample(config, padded_side(window_px, network.patch_size))
    save_model(path, network, facts)


def loops(model: Path, config: PredictConfig, device: torch.device) -> dict[str, float | None]:
    """Windows per second of each way; None: its package is not installed."""
    network, facts = load_model(model)
    side = window_of(config, facts)
    sliding = Sliding(network.to(device), facts, device, side, stride_of(side, config.overlap), config.batch_size)
    raster = noise(sliding)
    best = {way: math.inf for way in (OURS, *RIVALS) if missing(way) is None}
    for _ in track(range(ROUNDS), "rounds"):
        for way in best:
            best[way] = min(best[way], _seconds(way, sliding, raster, model, config))
    windows = ROWS * config.batch_size
    return {way: windows / best[way] if way in best else None for way in (OURS, *RIVALS)}


def sensors(model: Path, config: PredictConfig, device: torch.device, folder: Path) -> dict[str, float]:
    """Windows per second of predict by the sensors of the raster; the network excludes absent sensors.

    Args:
        model: the network, of two sensors; it is copied if it does not exclude absent sensors.
        config: section `predict`.
        device: device to compute on.
        folder: for the copy.
    """
    network, facts = load_model(model)
    if facts.network.missing != "excluded":
        facts = replace(facts, network=replace(facts.network, missing="excluded"))
        model = folder / "excluded.safetensors"
        save_model(model, network, facts)
    side = window_of(config, facts)
    sliding = Sliding(network, facts, device, side, stride_of(side, config.overlap), config.batch_size)
    raster = noise(sliding, SENSOR_ROWS)
    best = dict.fromkeys(SENSORS, math.inf)
    with open_model(str(model), device, config.window_px, config.precision) as predictor:
        for _ in track(range(3 * ROUNDS), "rounds"):
            for name, bits in SENSORS.items():
                start = time.perf_counter()
                _slide(predictor, sliding, raster if bits & DSM else without_heights(raster), bits)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: SENSOR_ROWS * config.batch_size / seconds for name, seconds in best.items()}


def without_heights(raster: Raster) -> Raster:
    """A raster of the same image in which no height was measured."""
    return replace(raster, dsm_HW=np.full_like(raster.dsm_HW, np.nan))


def noise(sliding: Sliding, rows: int = ROWS) -> Raster:
    """Random blocks of pixels; every row of windows is a full batch."""
    rng = np.random.default_rng(0)
    height, width = (sliding.window_px + (count - 1) * sliding.stride_px for count in (rows, sliding.batch_size))
    shape = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
    image_HWC = rng.integers(0, 256, (*shape, len(sliding.facts.bands)), dtype=np.uint8)
    dsm_HW = rng.random(shape, dtype=np.float32)
    blocks = np.arange(height)[:, None] // BLOCK_PX, np.arange(width) // BLOCK_PX
    return Raster(image_HWC[blocks], dsm_HW[blocks])


def _seconds(way: str, sliding: Sliding, raster: Raster, model: Path, config: PredictConfig) -> float:
    with ExitStack() as stack:
        if way == OURS:
            predictor = stack.enter_context(open_model(str(model), sliding.device, config.window_px, config.precision))
            start = time.perf_counter()
            _slide(predictor, sliding, raster)
        else:
            if way != RELEASED:  # the released loop is float32
                network, facts, device = sliding.network, sliding.facts, sliding.device
                precision = chosen(config.precision, facts, device)
                stack.enter_context(in_precision(network, facts, device, precision))
            start = time.perf_counter()
            RIVALS[way](sliding, raster)
        if sliding.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _slide(predictor: Predictor, sliding: Sliding, raster: Raster, sensors: int = IMAGE | DSM) -> None:
    height, width = raster.size
    lattice = Lattice(height, width, sliding.window_px, sliding.stride_px, sliding.batch_size)
    inputs, all_px = ArrayInputs(raster, sensors), height * width
    with Meter(all_px) as meter:
        for _ in blended(inputs, predictor, lattice, slice(0, height), slice(0, width), meter):  # type: ignore[arg-type]
            pass


def scene(model: Path, config: PredictConfig, device: torch.device, side_px: int, folder: Path) -> Scene:
    """Map a generated scene of `side_px` x `side_px` with a model, from disk to GeoTIFF."""
    ceiling = ceiling_flops(device)
    with (
        tempfile.TemporaryDirectory(prefix="scene-", dir=folder) as name,
        open_model(str(model), device, config.window_px, config.precision) as predictor,
    ):
        image, dsm = make_rasters(Path(name), side_px, side_px)
        request = PredictRequest(image=(str(image),), dsm=(str(dsm),), output=Path(name) / "map.tif")
        start = time.perf_counter()
        result = make_map(config, request, predictor)
        seconds = time.perf_counter() - start
        window_px = predictor.window_px
        flops = flops_per_window(predictor.facts.network, window_px)
    stride_px = stride_of(window_px, config.overlap)
    windows = math.prod(Lattice(side_px, side_px, window_px, stride_px, config.batch_size).shape)
    return Scene(
        side_px=side_px,
        seconds=seconds,
        megapixels_per_s=side_px**2 / 1e6 / seconds,
        windows_per_s=windows / seconds,
        waited_share=result.waited_share,
        gflops_per_window=flops / 1e9,
        ceiling_tflops=ceiling / 1e12,
        of_ceiling=windows / seconds * flops / ceiling,
    )


def flops_per_window(config: MoBaNetConfig, window_px: int) -> int:
    """Floating point operations of one forward pass with both streams."""
    network = on_meta(config).eval()
    image, dsm = (torch.empty(1, bands, window_px, window_px, device="meta") for bands in (config.image_bands, 1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, dsm)
    return counter.get_total_flops()
