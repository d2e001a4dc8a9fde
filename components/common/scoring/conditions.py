"""Score a network on tiles under every sensor condition: both modalities, image only, DSM only.

Train (validation tiles), evaluate (test tiles) and ablations use it, so that their figures mean the same. Logits are
averaged, compared and counted on the device; only class maps and counts are copied to the CPU. Logits that are NaN or
infinite have no class, so they are an error: a network can give them although all its weights are finite.
Letters: B batch, K classes, G maps of gates, h rows of a band, H W size of the tile, pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.store import Store, Tile, TileEntry
from components.common.errors import NonFiniteError
from components.common.inference.windows import Predict, Windows, sliding
from components.common.progress import track
from components.common.scoring.counts import Confusion, Counter
from components.common.scoring.gates import GateReader, has_gates
from model import MoBaNet

GROUND_TRUTHS = ("eroded", "full")
"""`eroded` ignores object boundaries, as the benchmark's protocol does; `full` is every labelled pixel."""

GROUND_TRUTH = "eroded"
"""The ground truth of every headline figure."""

Confusions = dict[str, dict[str, Confusion]]
"""Condition -> ground truth -> confusion matrix."""


def conditions(network: MoBaNet, gates: GateReader | None = None) -> dict[str, Predict]:
    """Condition -> prediction function, for every condition that a network supports; the first has all its sensors.

    The maps are the logits. With `gates`, the maps of the gates follow the logits of the first condition.
    """
    if network.config.modalities == ("rgb",):
        return {"rgb": lambda rgb, dsm: network(rgb, None)}
    if network.config.modalities == ("dsm",):
        return {"dsm": lambda rgb, dsm: network(None, dsm)}
    fused = network if gates is None or not has_gates(network) else _with_gates(network, gates)
    return {
        "rgb+dsm": lambda rgb, dsm: fused(rgb, dsm),
        "rgb": lambda rgb, dsm: network(rgb, None),
        "dsm": lambda rgb, dsm: network(None, dsm),
    }


def _with_gates(network: MoBaNet, reader: GateReader) -> Predict:
    def predict(rgb: Tensor, dsm: Tensor) -> Tensor:
        logits, gates = network.forward_with_gates(rgb, dsm)
        return torch.cat([logits, F.interpolate(reader.maps(gates).float(), size=logits.shape[-2:])], dim=1)

    return predict


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a tile's prediction, on the device."""

    row: int  # first row
    classes_hW: Tensor  # uint8
    gates_GhW: Tensor  # maps of the gates; G is 0 without gates


def bands(
    tile: Tile, predict: Predict, num_classes: int, windows: Windows, device: torch.device, name: str = "a tile"
) -> Iterator[Band]:
    """Predict one tile, band by band; the bands cover it exactly once, top down.

    Raises:
        NonFiniteError: after the last band, if a logit is NaN or infinite; it names the tile by `name`.
    """
    finite = torch.ones((), dtype=torch.bool, device=device)  # read once per tile, so that no band waits for the device
    for row, maps_KhW in sliding(tile, predict, windows, device):
        logits_KhW = maps_KhW[:num_classes]
        finite &= torch.stack(logits_KhW.aminmax()).isfinite().all()  # both are NaN if any logit is NaN
        yield Band(row, logits_KhW.max(0).indices.to(torch.uint8), maps_KhW[num_classes:])
    if not finite:
        raise NonFiniteError(f"the network gives logits that are NaN or infinite for {name}")


def tile_name(tile: str, condition: str) -> str:
    """The words for one tile under one condition in an error."""
    return f"tile {tile} ({condition})"


def class_map(
    tile: Tile, predict: Predict, num_classes: int, windows: Windows, device: torch.device, name: str = "a tile"
) -> npt.NDArray[np.uint8]:
    """Predicted classes of a tile, `[H, W]`."""
    parts = [band.classes_hW.cpu().numpy() for band in bands(tile, predict, num_classes, windows, device, name)]
    return np.concatenate(parts)


def tile_confusions(
    tile: Tile,
    predicted: Iterable[Band],
    num_classes: int,
    truths: Sequence[str] = GROUND_TRUTHS,
    visit: Callable[[Band], None] = lambda band: None,
) -> dict[str, Confusion]:
    """Confusion matrices of one tile's prediction, by ground truth.

    Args:
        tile: the tile.
        predicted: result of `bands`.
        num_classes: K.
        truths: ground truths to count.
        visit: called with every band, for whatever else is made of it.
    """
    labels = {"eroded": tile.eroded_HW, "full": tile.label_HW}
    counters = {truth: Counter(num_classes) for truth in truths}
    for band in predicted:
        rows = slice(band.row, band.row + len(band.classes_hW))
        for truth, counter in counters.items():
            counter.add(torch.tensor(labels[truth][rows], device=band.classes_hW.device), band.classes_hW)
        visit(band)
    return {truth: counter.matrix() for truth, counter in counters.items()}


def confusions(
    network: MoBaNet,
    store: Store,
    entries: Iterable[TileEntry],
    windows: Windows,
    device: torch.device,
    *,
    truths: Sequence[str] = GROUND_TRUTHS,
    gates: GateReader | None = None,
    wanted: Callable[[int], bool] = lambda job: True,
) -> Confusions:
    """Confusion matrices over tiles; rows are the true classes, columns the predicted ones.

    Args:
        network: the network, in evaluation mode, on `device`.
        store: the store with the tiles.
        entries: the tiles to score.
        windows: how tiles are cut into windows.
        device: device of the network.
        truths: ground truths to count.
        gates: takes in the gates of the condition with both sensors; None: the gates are not needed.
        wanted: whether to run a job, by its number. A job is one tile under one condition, numbered from 0; ranks use
            this to divide the jobs.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    k = network.config.num_classes
    predictions = conditions(network, gates)
    totals = {name: {truth: np.zeros((k, k), np.int64) for truth in truths} for name in predictions}
    job = itertools.count()

    def visit(band: Band) -> None:
        if gates is not None:
            gates.add(band.gates_GhW)

    for entry in track(entries, "scoring tiles", lines=False):
        for name, predict in predictions.items():
            if not wanted(next(job)):
                continue
            tile = store[entry]
            predicted = bands(tile, predict, k, windows, device, tile_name(entry.id, name))
            found = tile_confusions(tile, predicted, k, truths, visit)
            for truth in truths:
                totals[name][truth] += found[truth]
    return totals
