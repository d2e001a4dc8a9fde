"""Score degraded inputs: noise, lost pixels, a shifted or coarse DSM, other brightness, a lost band.

In: a network, the test tiles of a store. Out: the mIoU of every degradation with all sensors of the network, and how
much it changes. The degraded pixels are a function of `SEED`, the tile and the degradation. H W pixels, C bands.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from components.common.data.store import Store, Tile, TileEntry
from components.common.inference.any_network import AnyNetwork
from components.common.inference.modelfile import ModelFacts
from components.common.inference.windows import Windows
from components.common.progress import track
from components.common.scoring.conditions import GROUND_TRUTH, conditions
from components.common.scoring.metrics import scores
from components.common.scoring.tile_counts import Counted, score_tile
from components.evaluate.record import Degraded

SEED = 1503
"""Of the random degradations."""

LayerValues = npt.NDArray[np.floating]

Degrade = Callable[[LayerValues, float, np.random.Generator], LayerValues]
"""(float32 values of a sensor `[H, W, ...]`, level, generator) -> degraded values of the same shape; NaN: absent."""


def noisy(values: LayerValues, sigma: float, rng: np.random.Generator) -> LayerValues:
    """Add independent Gaussian noise of standard deviation `sigma` to every value, `[H, W, ...]`."""
    return values + sigma * rng.standard_normal(values.shape, dtype=np.float32)


def dropped(values: LayerValues, percent: float, rng: np.random.Generator) -> LayerValues:
    """Lose single pixels of `[H, W, ...]`, all their bands at once."""
    lost_HW = rng.random(values.shape[:2], dtype=np.float32) < percent / 100
    return np.where(lost_HW.reshape(*lost_HW.shape, *[1] * (values.ndim - 2)), np.float32(np.nan), values)


def shifted(values: LayerValues, distance_px: float, rng: np.random.Generator) -> LayerValues:
    """Move `[H, W, ...]` to the right against the other sensor; the left edge is repeated."""
    distance = int(distance_px)
    return np.concatenate([np.repeat(values[:, :1], distance, axis=1), values], axis=1)[:, : values.shape[1]]


def coarser(values: LayerValues, factor: float, rng: np.random.Generator) -> LayerValues:
    """Replace squares of `factor` pixels of `[H, W, ...]` by the mean of their measured pixels."""
    f, (height, width) = int(factor), values.shape[:2]
    rows, columns = np.arange(0, height, f), np.arange(0, width, f)
    known = np.isfinite(values)
    total, count = (
        np.add.reduceat(np.add.reduceat(part, rows, axis=0), columns, axis=1)
        for part in (np.where(known, values, 0), known.astype(np.float32))
    )
    means = np.divide(total, count, out=np.full(total.shape, np.nan, np.float32), where=count > 0)
    return means.repeat(f, axis=0).repeat(f, axis=1)[:height, :width]


def brighter(values: LayerValues, factor: float, rng: np.random.Generator) -> LayerValues:
    """Multiply every value, `[H, W, ...]`."""
    return values * np.float32(factor)


def lost_band(values: LayerValues, band: float, rng: np.random.Generator) -> LayerValues:
    """Lose one band of `[H, W, C]`, by its number."""
    found = values.copy()
    found[..., int(band)] = np.nan
    return found


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A kind of degradation and the levels to score."""

    name: str
    sensor: str  # rgb or dsm
    levels: tuple[float, ...]
    unit: str | None
    degrade: Degrade


PERTURBATIONS = (
    Perturbation("noise", "rgb", (5, 10, 20), "grey values", noisy),
    Perturbation("noise", "dsm", (0.1, 0.25, 0.5, 1), "m", noisy),
    Perturbation("lost pixels", "rgb", (1, 5, 20), "%", dropped),
    Perturbation("lost pixels", "dsm", (1, 5, 20), "%", dropped),
    Perturbation("shift", "dsm", (1, 2, 4, 8), "px", shifted),
    Perturbation("coarser pixels", "dsm", (2, 4, 8), "x", coarser),
    Perturbation("brightness", "rgb", (0.7, 1.3), "x", brighter),
)
"""Every degradation, besides the loss of each band."""


def degraded(tile: Tile, name: str, kind: Perturbation, level: float, facts: ModelFacts) -> Tile:
    """The tile with one sensor degraded.

    Args:
        tile: a tile that has this sensor.
        name: id of the tile.
        kind: the degradation.
        level: how strong it is, in its unit.
        facts: facts of the model, for the scale and limits of heights.

    Returns:
        A tile whose image may be float32, 0..255, with NaN where it is absent.
    """
    key = f"{name} {kind.name} {kind.sensor} {level:g}"
    rng = np.random.default_rng([SEED, zlib.crc32(key.encode())])
    if kind.sensor == "rgb":
        image_HWC = kind.degrade(tile.image_HWC.astype(np.float32), level, rng)
        return replace(tile, image_HWC=np.clip(image_HWC, 0, 255).astype(np.float32))
    if kind.unit == "m":
        assert facts.heights.scale_m is not None
        level = level / facts.heights.scale_m
    dsm_HW = kind.degrade(np.asarray(tile.dsm_HW, np.float32), level, rng)
    return replace(tile, dsm_HW=np.clip(dsm_HW, *facts.heights.clip).astype(np.float32))


def robustness(
    network: AnyNetwork,
    facts: ModelFacts,
    store: Store,
    entries: Sequence[TileEntry],
    windows: Windows,
    device: torch.device,
    intact_miou: float,
) -> tuple[Degraded, ...]:
    """Score every degradation of every sensor of the network.

    Heights that each tile scales by itself have no metres, so their noise is left out.

    Args:
        network: the network, in evaluation mode, on `device`.
        facts: facts of the model.
        store: the store with the tiles.
        entries: the tiles; those without all sensors of the network are left out.
        windows: how tiles are cut into windows.
        device: device of the network.
        intact_miou: mIoU of the same tiles without a degradation, percent points.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    first = conditions(network)[0]
    whole = [entry for entry in entries if first in conditions(network, entry.sensors)]
    k = network.config.num_classes
    cases = [(kind, level) for kind in _kinds(facts) for level in kind.levels]
    totals = [np.zeros((k, k), np.int64) for _ in cases]
    counted = Counted(truths=(GROUND_TRUTH,))
    for entry, (number, (kind, level)) in track(
        [(entry, case) for entry in whole for case in enumerate(cases)], "scoring degraded tiles"
    ):
        tile = degraded(store[entry], entry.id, kind, level, facts)
        name = f"tile {entry.id} ({kind.name}, {kind.sensor}, {level:g})"
        found = score_tile(network, tile, windows, device, counted, names=(first,), name=name)
        totals[number] += found[first].confusions[GROUND_TRUTH]
    return tuple(
        Degraded(kind.name, kind.sensor, _shown(kind, level, facts), kind.unit, miou, miou - intact_miou)
        for (kind, level), total_KK in zip(cases, totals, strict=True)
        for miou in (scores(total_KK, facts.classes, facts.in_means).miou,)
    )


def _kinds(facts: ModelFacts) -> Iterator[Perturbation]:
    """The degradations that apply to a model."""
    for kind in PERTURBATIONS:
        if kind.sensor in facts.network.modalities and not (kind.unit == "m" and facts.heights.scale_m is None):
            yield kind
    if "rgb" in facts.network.modalities and len(facts.bands) > 1:
        yield Perturbation("lost band", "rgb", tuple(range(len(facts.bands))), None, lost_band)


def _shown(kind: Perturbation, level: float, facts: ModelFacts) -> float | str:
    return facts.bands[int(level)] if kind.degrade is lost_band else level
