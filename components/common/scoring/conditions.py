"""Predict tiles under every sensor condition in one pass: both modalities, image only, DSM only.

Train (validation tiles), evaluate (test tiles) and ablations use it, so that their figures mean the same. A window is
read and normalised once for all conditions, and the gates come from the pass with both sensors. Logits are averaged,
compared and counted on the device; only class maps and counts are copied to the CPU. Logits that are NaN or infinite
have no class, so they are an error: a network can give them although all its weights are finite.
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

from components.common.data.datasets import CONDITIONS
from components.common.data.store import SENSORS, Sensor, Store, Tile, TileEntry
from components.common.errors import NonFiniteError
from components.common.inference.any_network import AnyNetwork
from components.common.inference.windows import Predict, Windows, parts, sliding
from components.common.progress import track
from components.common.scoring.counts import Confusion, Counter
from components.common.scoring.gates import GateReader, has_gates

GROUND_TRUTHS = ("eroded", "full")
"""`eroded` ignores object boundaries, as the benchmark's protocol does; `full` is every labelled pixel."""

GROUND_TRUTH = "eroded"
"""The ground truth of every headline figure."""

Confusions = dict[str, dict[str, Confusion]]
"""Condition -> ground truth -> confusion matrix."""


def conditions(network: AnyNetwork, sensors: Sequence[Sensor] = SENSORS) -> tuple[str, ...]:
    """The conditions that a network supports on a tile with these sensors; the first has the most sensors.

    A network of one modality supports the condition with its own sensor only. Without that sensor there is none.
    """
    known = network.config.modalities
    supported = CONDITIONS if len(known) == 2 else {known[0]: CONDITIONS[known[0]]}
    return tuple(name for name, needed in supported.items() if set(needed) <= set(sensors))


def tiles_by_condition(network: AnyNetwork, entries: Iterable[TileEntry]) -> dict[str, tuple[str, ...]]:
    """Condition -> ids of the tiles that are scored under it; a condition without a tile is left out."""
    entries = tuple(entries)
    found = {
        name: tuple(entry.id for entry in entries if name in conditions(network, entry.sensors)) for name in CONDITIONS
    }
    return {name: ids for name, ids in found.items() if ids}


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a tile's prediction, on the device."""

    row: int  # first row
    logits_KhW: dict[str, Tensor]  # condition -> float32, the mean of all windows over a pixel
    gates_GhW: Tensor  # maps of the gates; G is 0 without gates


def bands(
    network: AnyNetwork,
    tile: Tile,
    windows: Windows,
    device: torch.device,
    *,
    names: Sequence[str] | None = None,
    gates: GateReader | None = None,
    name: str = "a tile",
    part: range | None = None,
) -> Iterator[Band]:
    """Predict one tile under several conditions, band by band; the bands cover it exactly once, top down.

    Args:
        network: the network, in evaluation mode, on `device`.
        tile: the layers of the tile.
        windows: how the tile is cut into windows.
        device: device of the network.
        names: conditions; None: all that the network supports and the tile has the sensors of.
        gates: reduces the gates of the condition with both sensors to maps; None: no maps of gates.
        name: words for the tile in an error.
        part: a result of `windows.parts`; None: the complete tile.

    Raises:
        NonFiniteError: after the last band, if a logit is NaN or infinite; it names the tile and the condition.
    """
    names, k = conditions(network, tile.sensors) if names is None else tuple(names), network.config.num_classes
    if not names:
        return
    # read once per tile, so that no band waits for the device
    finite = {condition: torch.ones((), dtype=torch.bool, device=device) for condition in names}
    for row, maps_MhW in sliding(tile, _predictor(network, names, gates), windows, device, part):
        *by_condition, gates_GhW = maps_MhW.split([k] * len(names) + [len(maps_MhW) - k * len(names)])
        logits_KhW = dict(zip(names, by_condition, strict=True))
        for condition, found_KhW in logits_KhW.items():
            finite[condition] &= found_KhW.sum().isfinite()  # a sum of finite logits overflows from about 1e31 only
        yield Band(row, logits_KhW, gates_GhW)
    for condition, usable in zip(names, torch.stack(list(finite.values())).tolist(), strict=True):
        if not usable:
            raise NonFiniteError(f"the network gives logits that are NaN or infinite for {name} ({condition})")


def _predictor(network: AnyNetwork, names: Sequence[str], gates: GateReader | None) -> Predict:
    """A function from inputs to the logits of all conditions, one after the other, and the maps of the gates."""

    def predict(rgb: Tensor, dsm: Tensor) -> Tensor:
        maps: list[Tensor] = []
        of_gates: list[Tensor] = []
        for name in names:
            given = rgb if "rgb" in CONDITIONS[name] else None, dsm if "dsm" in CONDITIONS[name] else None
            if gates is None or len(CONDITIONS[name]) == 1 or not has_gates(network):
                maps.append(network(*given))
                continue
            logits, found = network.forward_with_gates(*given)
            maps.append(logits)
            of_gates.append(F.interpolate(gates.maps(found).float(), size=logits.shape[-2:]))
        return torch.cat(maps + of_gates, dim=1)

    return predict


def class_maps(
    network: AnyNetwork, tile: Tile, windows: Windows, device: torch.device, name: str = "a tile"
) -> dict[str, npt.NDArray[np.uint8]]:
    """Predicted classes of a tile by condition, `[H, W]` each; arguments and errors as in `bands`."""
    rows: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for band in bands(network, tile, windows, device, name=name):
        for condition, logits_KhW in band.logits_KhW.items():
            rows.setdefault(condition, []).append(classes_of(logits_KhW).cpu().numpy())
    return {condition: np.concatenate(found) for condition, found in rows.items()}


def classes_of(logits_KhW: Tensor) -> Tensor:
    """The classes with the highest logits, uint8 `[h, W]`; ties go to the first class."""
    return logits_KhW.max(0).indices.to(torch.uint8)  # five times as fast as argmax on a CPU


def confusions(
    network: AnyNetwork,
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

    A tile counts under the conditions whose sensors it has. A condition without such a tile is left out.

    Args:
        network: the network, in evaluation mode, on `device`.
        store: the store with the tiles.
        entries: the tiles to score.
        windows: how tiles are cut into windows.
        device: device of the network.
        truths: ground truths to count.
        gates: takes in the gates of the condition with both sensors; None: the gates are not needed.
        wanted: whether to run a job, by its number. A job is a part of one tile under all of its conditions, numbered
            from 0; ranks use this to divide the jobs.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    entries, k = tuple(entries), network.config.num_classes
    totals = {
        name: {truth: np.zeros((k, k), np.int64) for truth in truths} for name in tiles_by_condition(network, entries)
    }
    job = itertools.count()
    for entry in track(entries, "scoring tiles", lines=False):
        for part in parts(entry.height_px, windows):
            if not conditions(network, entry.sensors) or not wanted(next(job)):
                continue
            predicted = bands(network, store[entry], windows, device, gates=gates, name=f"tile {entry.id}", part=part)
            for name, by_truth in _counted(store[entry], predicted, k, truths, gates).items():
                for truth, counter in by_truth.items():
                    totals[name][truth] += counter.matrix()
    return totals


def _counted(
    tile: Tile, predicted: Iterable[Band], num_classes: int, truths: Sequence[str], gates: GateReader | None
) -> dict[str, dict[str, Counter]]:
    """Condition -> ground truth -> counts of the bands of a tile; the gates of the bands are taken in."""
    labels = {"eroded": tile.eroded_HW, "full": tile.label_HW}
    counters: dict[str, dict[str, Counter]] = {}
    for band in predicted:
        device, rows = band.gates_GhW.device, slice(band.row, band.row + band.gates_GhW.shape[1])
        truth_hW = {truth: torch.tensor(labels[truth][rows], device=device) for truth in truths}
        for name, logits_KhW in band.logits_KhW.items():
            classes_hW = classes_of(logits_KhW)
            for truth, counter in counters.setdefault(name, {t: Counter(num_classes) for t in truths}).items():
                counter.add(truth_hW[truth], classes_hW)
        if gates is not None:
            gates.add(band.gates_GhW)
    return counters
