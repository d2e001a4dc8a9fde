"""How far the scores can be trusted: intervals, boundary IoU and calibration, from the counts of all test tiles.

In: what was counted of every tile. Out: parts of the record. Letters: N blocks, K classes, T temperatures, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.common.data.store import TileEntry
from components.common.inference.modelfile import ModelFacts, temperature_of
from components.common.scoring.boundary import WIDTH_PX, boundary_iou
from components.common.scoring.conditions import GROUND_TRUTH
from components.common.scoring.metrics import mean
from components.common.scoring.tile_counts import ConditionCounts, block_shape
from components.common.uncertainty.calibration import Reliability, reliability
from components.common.uncertainty.intervals import Intervals, intervals
from components.evaluate.config import EvaluateConfig
from components.evaluate.record import Boundary

TileCounts = Sequence[Mapping[str, ConditionCounts]]
"""Per tile: condition -> counts; a tile lacks the conditions whose sensors it does not have."""


def score_intervals(
    counts: TileCounts,
    entries: Sequence[TileEntry],
    facts: ModelFacts,
    config: EvaluateConfig,
) -> Intervals:
    """The intervals of all scores on the ground truth of the headline figures.

    Args:
        counts: counts of every tile, with its blocks.
        entries: the tiles, in the same order.
        facts: facts of the model.
        config: section `evaluate`.
    """
    k = len(facts.classes)
    grids = [block_shape(entry.height_px, entry.width_px, config.intervals.block_px) for entry in entries]
    blocks: dict[str, npt.NDArray[np.int64]] = {}
    for condition in _conditions(counts):
        parts = [
            of_tile[condition].blocks[GROUND_TRUTH] if condition in of_tile else np.zeros((rows * columns, k, k), int)
            for of_tile, (rows, columns) in zip(counts, grids, strict=True)
        ]
        blocks[condition] = np.concatenate(parts)
    return intervals(
        blocks,
        grids,
        facts.classes,
        facts.in_means,
        config.failure_probability,
        level=config.intervals.level,
        samples=config.intervals.samples,
        block_px=config.intervals.block_px,
    )


def boundaries(counts: TileCounts, facts: ModelFacts, width_px: int = WIDTH_PX) -> dict[str, Boundary]:
    """Boundary IoU by condition."""
    counted = np.asarray(facts.in_means, bool)
    found = {}
    for condition in _conditions(counts):
        parts = [of_tile[condition].boundary_K2 for of_tile in counts if condition in of_tile]
        iou_K = boundary_iou(np.sum([part_K2 for part_K2 in parts if part_K2 is not None], axis=0))
        found[condition] = Boundary(
            width_px, mean(iou_K[counted]), dict(zip(facts.classes, iou_K.tolist(), strict=True))
        )
    return found


def calibrations(counts: TileCounts, facts: ModelFacts) -> dict[str, Reliability]:
    """Calibration by condition, without and with the model's temperature."""
    found = {}
    for condition in _conditions(counts):
        parts = [of_tile[condition].calibration for of_tile in counts if condition in of_tile]
        before_B3, after_B3 = np.sum([part_TB3 for part_TB3 in parts if part_TB3 is not None], axis=0)
        found[condition] = reliability(before_B3, after_B3, temperature_of(facts, condition))
    return found


def _conditions(counts: TileCounts) -> list[str]:
    """All conditions, those with all sensors of the network first."""
    named = {condition for of_tile in counts for condition in of_tile}
    return [condition for condition in ("rgb+dsm", "rgb", "dsm") if condition in named]
