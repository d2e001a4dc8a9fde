"""Predict against the released protocol on the sample: time and mIoU of the same pixels, in the same run.

In: a model, raw tiles and their store. Out: figures. Our time includes reading the files and writing the map. The
time of the released protocol is that of the loop over pixels in memory. Letters: H W pixels of the map.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TypeVar

import numpy as np
import rasterio
import torch
from rasterio import Affine

from components.common.data.config import DataConfig
from components.common.data.store import Store, TileEntry
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.params import section
from components.common.predictors.models import open_model
from components.common.readers.scene import open_scene
from components.common.scoring.counts import Counter
from components.common.scoring.metrics import scores
from components.predict.config import PredictConfig, PredictRequest
from components.predict.inputs.scene_inputs import Inputs
from components.predict.step import make_map, scene_files
from components.predict.tile_request import request_for
from pipeline.bench.predict_rivals import RELEASED_STRIDE_PX, Classes, Raster, Sliding, released

T = TypeVar("T")

Place = tuple[slice, slice]
"""Rows and columns of a tile in the map."""

NO_CLASS = 255


@dataclass(frozen=True, slots=True)
class Compared:
    """Predict and the released protocol on the same raster."""

    tiles: tuple[str, ...]
    height_px: int
    width_px: int
    seconds: float  # of predict, from files to the finished map; mean of a run before and one after the other protocol
    megapixels_per_s: float  # of the tiles; the gaps between them do not count
    released_seconds: float
    ratio: float  # released_seconds / seconds
    miou: float  # of predict, eroded ground truth, percent
    released_miou: float
    miou_change: float  # miou - released_miou, percentage points


def compare(model: Path, params: Path, raw: Path, store: Path, device: torch.device) -> Compared:
    """Map the test tiles as one raster, and score both maps against the eroded ground truth of the store.

    Args:
        model: a `.safetensors` file.
        params: file with the sections `data` and `predict`.
        raw: raw tiles.
        store: store of the same tiles.
        device: device of both.

    Raises:
        DataError: the tiles cannot be read.
        StoreError: there is no store.
    """
    config, data = section(params, "predict", PredictConfig), section(params, "data", DataConfig)
    tiles = Store(store)
    entries = tiles.manifest.subset("test")
    network, facts = load_model(model)
    with tempfile.TemporaryDirectory(prefix="mobanet-bench-") as name:
        ids = [entry.id for entry in entries]
        request = replace(request_for(raw, data.split, ids, model, Path(name)), extras=frozenset(), summary=None)
        raster, places = _pixels(request, facts, entries)
        sliding = Sliding(network.to(device), facts, device, facts.window_px, RELEASED_STRIDE_PX, 1)
        with open_model(str(model), device, config.window_px, config.precision) as predictor:
            before_s, _ = _timed(lambda: make_map(config, request, predictor))
        released_s, theirs_HW = _timed(lambda: _released(sliding, raster, places))
        again = replace(request, output=request.output.with_name("again.tif"))
        with open_model(str(model), device, config.window_px, config.precision) as predictor:
            after_s, _ = _timed(lambda: make_map(config, again, predictor))
        with rasterio.open(request.output) as file:
            ours_HW: Classes = file.read(1)
    truths = [tiles[entry].eroded_HW for entry in entries]
    ours, theirs = (_miou(classes_HW, truths, places, facts) for classes_HW in (ours_HW, theirs_HW))
    seconds, (height, width) = mean((before_s, after_s)), raster.size
    return Compared(
        tiles=tuple(ids),
        height_px=height,
        width_px=width,
        seconds=seconds,
        megapixels_per_s=sum(truth_HW.size for truth_HW in truths) / 1e6 / seconds,
        released_seconds=released_s,
        ratio=released_s / seconds,
        miou=ours,
        released_miou=theirs,
        miou_change=ours - theirs,
    )


def _pixels(request: PredictRequest, facts: ModelFacts, entries: Sequence[TileEntry]) -> tuple[Raster, list[Place]]:
    """The complete raster as the network sees it, and the tiles in it."""
    with ExitStack() as stack:
        scene = open_scene(scene_files(request, facts), stack)
        inputs = Inputs(scene, facts)
        patch = inputs.read(slice(0, inputs.height_px), slice(0, inputs.width_px))
        return Raster(patch.image_HWC, patch.dsm_HW), [_place(entry, scene.grid.transform) for entry in entries]


def _released(sliding: Sliding, raster: Raster, places: Sequence[Place]) -> Classes:
    """The released protocol, which predicts one tile after the other."""
    classes_HW = np.full(raster.size, NO_CLASS, np.uint8)
    for place in places:
        classes_HW[place] = released(sliding, Raster(raster.image_HWC[place], raster.dsm_HW[place]))
    return classes_HW


def _place(entry: TileEntry, transform: Affine) -> Place:
    """Rows and columns of a tile in the map."""
    column, row = ~transform * (entry.transform[2], entry.transform[5])
    top, left = round(row), round(column)
    return slice(top, top + entry.height_px), slice(left, left + entry.width_px)


def _miou(classes_HW: Classes, truths: Sequence[Classes], places: Sequence[Place], facts: ModelFacts) -> float:
    counter = Counter(len(facts.classes))
    for truth_HW, place in zip(truths, places, strict=True):
        found_HW = classes_HW[place]
        known_HW = found_HW < len(facts.classes)
        counter.add(*(torch.from_numpy(np.ascontiguousarray(x[known_HW])) for x in (truth_HW, found_HW)))
    return scores(counter.matrix(), facts.classes, facts.in_means).miou


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
