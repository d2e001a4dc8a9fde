"""Everything that is counted of one tile, in one pass: confusion matrices per block, boundaries, calibration.

In: a network, a tile. Out: small arrays of counts per condition, which add up over tiles. The class maps of the tile,
one byte per pixel and condition, stay on the device until they are counted; logits are held for a band of rows only.
Letters: K classes, N blocks, T temperatures, B bins, H W size of the tile, h rows of a band, pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.data.datasets import IGNORE
from components.common.data.store import Tile
from components.common.inference.any_network import AnyNetwork
from components.common.inference.windows import Windows
from components.common.scoring.boundary import Outlines
from components.common.scoring.conditions import GROUND_TRUTH, GROUND_TRUTHS, bands, classes_of, conditions
from components.common.scoring.counts import Calibration, Confusion
from components.common.scoring.gates import GateReader


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of a tile."""

    truths: tuple[str, ...] = GROUND_TRUTHS  # ground truths of the confusion matrices
    block_px: int | None = None  # side of a block, pixels; None: the tile is one block
    boundary_px: int | None = None  # distance of pixels from an outline for boundary IoU; None: not counted
    temperature: Mapping[str, float] | None = None  # of a condition; 1 for one without; None: no calibration


CONFUSIONS = Counted()
"""Confusion matrices of the complete tile, and nothing else."""


@dataclass(frozen=True, slots=True)
class ConditionCounts:
    """The counts of one tile under one condition."""

    blocks: dict[str, npt.NDArray[np.int64]]  # ground truth -> `[N, K, K]`, rows are the truth; see `block_shape`
    boundary_K2: npt.NDArray[np.int64] | None  # intersection and union near outlines, full ground truth
    calibration: npt.NDArray[np.float64] | None  # `[T, B, 3]`: pixels, sum of confidence, correct; T = 1 comes first

    @property
    def confusions(self) -> dict[str, Confusion]:
        """Ground truth -> confusion matrix of the tile: the sum of its blocks."""
        return {truth: blocks.sum(axis=0) for truth, blocks in self.blocks.items()}


def block_shape(height: int, width: int, block_px: int) -> tuple[int, int]:
    """Blocks per column and per row of a tile; blocks are numbered row by row.

    What is left at the bottom and at the right is a block of its own from half of `block_px` on; else it belongs to the
    last block.
    """
    rows, columns = (max(1, (2 * side + block_px) // (2 * block_px)) for side in (height, width))
    return rows, columns


def score_tile(
    network: AnyNetwork,
    tile: Tile,
    windows: Windows,
    device: torch.device,
    counted: Counted = CONFUSIONS,
    *,
    names: Sequence[str] | None = None,
    gates: GateReader | None = None,
    name: str = "a tile",
    visit: Callable[[str, Tensor], None] | None = None,
) -> dict[str, ConditionCounts]:
    """Predict one tile under several conditions in one pass, and count.

    Args:
        network: the network, in evaluation mode, on `device`.
        tile: the layers of the tile.
        windows: how the tile is cut into windows.
        device: device of the network.
        counted: what to count.
        names: conditions; None: all that the network supports and the tile has the sensors of.
        gates: takes in the gates of the condition with both sensors; None: the gates are not needed.
        name: words for the tile in an error.
        visit: called with every condition and its class map, uint8 `[H, W]` on the device.

    Returns:
        Condition -> counts.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
        ValueError: a label is no class of the network.
    """
    names, k = conditions(network, tile.sensors) if names is None else tuple(names), network.config.num_classes
    labels = {"eroded": torch.tensor(tile.eroded_HW, device=device), "full": torch.tensor(tile.label_HW, device=device)}
    classes = {n: torch.empty(tile.label_HW.shape, dtype=torch.uint8, device=device) for n in names}
    temperatures = counted.temperature
    confident = {} if temperatures is None else {n: Calibration((1.0, temperatures.get(n, 1.0))) for n in names}
    for band in bands(network, tile, windows, device, names=names, gates=gates, name=name):
        rows = slice(band.row, band.row + band.gates_GhW.shape[1])
        for condition, logits_KhW in band.logits_KhW.items():
            classes[condition][rows] = classes_of(logits_KhW)
            if temperatures is not None:
                confident[condition].add(labels[GROUND_TRUTH][rows], logits_KhW)
        if gates is not None:
            gates.add(band.gates_GhW)
    edges = None if counted.boundary_px is None else Outlines(labels["full"], k, counted.boundary_px)
    blocks = {truth: _blocks(labels[truth], classes, k, counted.block_px) for truth in counted.truths}
    found = {}
    for condition, classes_HW in classes.items():
        found[condition] = ConditionCounts(
            {truth: by_condition[condition] for truth, by_condition in blocks.items()},
            None if edges is None else edges.counts(classes_HW).cpu().numpy(),
            None if temperatures is None else confident[condition].histograms(),
        )
        if visit is not None:
            visit(condition, classes_HW)
    return found


def _blocks(
    truth_HW: Tensor, classes: Mapping[str, Tensor], num_classes: int, block_px: int | None
) -> dict[str, npt.NDArray[np.int64]]:
    """Condition -> confusion matrices of the blocks, `[N, K, K]`; one row of blocks is worked on at a time."""
    height, width = truth_HW.shape
    block_px = block_px or max(height, width)
    rows, columns = block_shape(height, width, block_px)
    ends = [*(block_px * row for row in range(1, rows)), height]
    column_W = (torch.arange(width, device=truth_HW.device, dtype=torch.int32) // block_px).clamp_(max=columns - 1)
    symbols = num_classes + 2  # classes, ignored, any other value
    code_256 = torch.full((IGNORE + 1,), num_classes + 1, dtype=torch.int32, device=truth_HW.device)
    code_256[:num_classes] = torch.arange(num_classes, dtype=torch.int32)
    code_256[IGNORE] = num_classes
    counts: dict[str, list[Tensor]] = {condition: [] for condition in classes}
    for top, end in zip([0, *ends], ends, strict=False):
        cell_hW = (column_W * symbols + code_256[truth_HW[top:end].int()]) * num_classes
        for condition, classes_HW in classes.items():
            pairs = (cell_hW + classes_HW[top:end]).flatten()
            counts[condition].append(torch.bincount(pairs, minlength=columns * symbols * num_classes))
    found = {}
    for condition, parts in counts.items():
        by_symbol = torch.cat(parts).reshape(rows * columns, symbols, num_classes).cpu().numpy()
        if by_symbol[:, num_classes + 1].any():
            values = np.unique(truth_HW.cpu().numpy())
            stray = values[(values >= num_classes) & (values != IGNORE)][0]
            raise ValueError(f"class {stray} in a map of {num_classes} classes")
        found[condition] = by_symbol[:, :num_classes].astype(np.int64)
    return found
