"""Statistics of validation windows that a package stores, so that production can be compared with them later.

In: a network and validation tiles. Out: `reference.json`: a histogram of every quantity for every window, and the area
of every window. Single windows are stored, not their sum: so a comparison knows how much windows and areas differ
without any drift. An area is a tile, or a part of one if there are few tiles.
Letters: N windows, B coarse bins, b fine bins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.common.data.store import Tile
from components.common.drift.quantities import DSM, IMAGE, Counts, Quantity, WindowPixels, counted, quantities
from components.common.drift.window_places import shuffled_places
from components.common.errors import DataError
from components.common.inference.given_sensors import measured
from components.common.inference.modelfile import ModelFacts
from model import MoBaNet
from model.inputs import normalise, pad_to_multiple

FILE = "reference.json"
"""Name of the file in a package."""

FORMAT = 1
"""Version of the file."""

WINDOWS = 48
"""Largest number of stored windows; all tiles have about the same number."""

LEAST_AREAS = 8
"""Tiles are divided into at least this many areas, because the variation between fewer areas is poorly known."""

BINS = 16
"""Most coarse bins of an ordered quantity; each has about the same share of the reference's pixels."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """Histograms of one quantity in coarse bins."""

    quantity: Quantity
    starts: tuple[int, ...]  # first fine bin of every coarse bin
    counts_NB: Counts  # pixels per window and coarse bin

    def coarse(self, fine_Nb: Counts) -> Counts:
        """Fine bins of other windows in these coarse bins, `[N, B]`."""
        return np.add.reduceat(fine_Nb, self.starts, axis=1)


@dataclass(frozen=True, slots=True)
class Reference:
    """Statistics of validation windows."""

    window_px: int  # side of a window
    area_px: int  # side of an area
    areas: tuple[int, ...]  # area of every window, numbered from 0, in ascending order
    histograms: dict[str, Histograms]


def reference(network: MoBaNet, facts: ModelFacts, tiles: Sequence[Tile]) -> dict[str, Any]:
    """Statistics of validation windows with all sensors, as content of `reference.json`.

    Args:
        network: the network, in evaluation mode, on the CPU.
        facts: facts of the network.
        tiles: validation tiles in the model's input space, at least one.
    """
    side_px = sum(tile.dsm_HW.size for tile in tiles) ** 0.5 / len(tiles) ** 0.5
    area_px = max(facts.window_px, round(side_px / ceil((LEAST_AREAS / len(tiles)) ** 0.5)))
    each = max(1, WINDOWS // len(tiles))
    found: list[tuple[tuple[int, int, int], WindowPixels]] = []
    for number, tile in enumerate(tiles[:: -(-len(tiles) // WINDOWS)]):
        places = shuffled_places([tile.dsm_HW.shape], facts.window_px, number)
        for place, _ in zip(places, range(each), strict=False):
            part = place.pixels(facts.window_px)
            area = number, place.row // area_px, place.column // area_px
            found.append((area, window_of(tile.image_HWC[part], tile.dsm_HW[part], facts)))
    found.sort(key=lambda one: one[0])
    numbers = {area: number for number, area in enumerate(dict.fromkeys(area for area, _ in found))}
    fine = count_all([window for _, window in found], facts, lambda window: _logits(network, facts, window))
    return _as_json(
        Reference(
            window_px=facts.window_px,
            area_px=area_px,
            areas=tuple(numbers[area] for area, _ in found),
            histograms={name: _grouped(quantity, fine[name]) for name, quantity in quantities(facts).items()},
        )
    )


def window_of(image_HWC: Any, dsm_HW: Any, facts: ModelFacts) -> WindowPixels:
    """A window of a tile with labels, whose image has no missing pixel.

    Args:
        image_HWC: uint8, the bands of the model.
        dsm_HW: float32, scaled heights; NaN = not measured.
        facts: of the model; a network of one sensor does not see the other one.
    """
    sensors = facts.network.modalities
    image = np.uint8(IMAGE if "rgb" in sensors else 0)
    dsm = np.uint8(DSM if "dsm" in sensors else 0)
    return WindowPixels(image_HWC, dsm_HW, image | np.isfinite(dsm_HW) * dsm)


def count_all(
    windows: Sequence[WindowPixels], facts: ModelFacts, logits: Callable[[WindowPixels], Tensor]
) -> dict[str, Counts]:
    """Name -> histograms of all windows in fine bins, `[N, b]`.

    Args:
        windows: at least one.
        facts: of the model.
        logits: gives logits `[K, H, W]` of a window.
    """
    found = [counted(window, logits(window), facts) for window in windows]
    return {name: np.stack([one[name] for one in found]) for name in quantities(facts)}


def read_reference(path: Path, facts: ModelFacts) -> Reference:
    """Statistics that `reference` returned, from a file.

    Args:
        path: the file.
        facts: of the model to which the file belongs.

    Raises:
        DataError: the file is missing or damaged, has another format, or belongs to another model.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path}: format {content['format']}, but this version reads format {FORMAT}; export again")
        known = quantities(facts)
        histograms = {
            name: Histograms(known[name], tuple(given["starts"]), np.array(given["counts"], np.int64))
            for name, given in content["quantities"].items()
        }
        found = Reference(content["window_px"], content["area_px"], tuple(content["areas"]), histograms)
        _require_consistent(found, known)
    except FileNotFoundError:
        raise DataError(
            f"{path.parent}: the package has no {path.name}; run the export step again, then register it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{path}: damaged or of another model; run the export step again, then register the package"
        ) from None
    return found


def _require_consistent(found: Reference, known: dict[str, Quantity]) -> None:
    count = len(found.areas)
    if found.histograms.keys() != known.keys() or count == 0:
        raise ValueError("other quantities")
    for histograms in found.histograms.values():
        starts, bins = histograms.starts, histograms.quantity.bins
        if histograms.counts_NB.shape != (count, len(starts)) or not (starts[0] == 0 and starts[-1] < bins):
            raise ValueError("other bins")


def _logits(network: MoBaNet, facts: ModelFacts, window: WindowPixels) -> Tensor:
    """Logits `[K, H, W]` of a window."""
    image_1CHW = torch.tensor(window.image_HWC).movedim(-1, 0)[None]
    inputs = normalise(image_1CHW, torch.tensor(window.dsm_HW)[None, None], facts.image_mean, facts.image_std)
    rgb_1CHW, dsm_11HW = (pad_to_multiple(x, network.patch_size) for x in inputs)
    height, width = window.dsm_HW.shape
    with torch.inference_mode():
        logits_1KHW = network(*measured(rgb_1CHW, dsm_11HW, facts.network))
    return torch.as_tensor(logits_1KHW[0, :, :height, :width])


def _grouped(quantity: Quantity, fine_Nb: Counts) -> Histograms:
    """Histograms in coarse bins; a value that many pixels have is a bin of its own."""
    starts = set(range(quantity.bins))
    if quantity.ordered:
        total_b = fine_Nb.sum(0)
        lasts = np.searchsorted(np.cumsum(total_b), np.arange(1, BINS) / BINS * total_b.sum())
        alone = lasts[total_b[lasts] * BINS > total_b.sum()]
        starts = {0, *(lasts + 1).tolist(), *alone.tolist()} & starts
    ordered = tuple(sorted(starts))
    return Histograms(quantity, ordered, np.add.reduceat(fine_Nb, ordered, axis=1))


def _as_json(found: Reference) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "window_px": found.window_px,
        "area_px": found.area_px,
        "areas": list(found.areas),
        "quantities": {
            name: {"starts": list(one.starts), "counts": one.counts_NB.tolist()}
            for name, one in found.histograms.items()
        },
    }
