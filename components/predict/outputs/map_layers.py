"""Layers of a map: the classes, and what else can be written next to them; all are uint8.

In: a band of blended scores. Out: the pixels of each layer. Probabilities and the like are percent, rounded.
A pixel without a class is 255 in every layer but `sensors`, where it is 0.
Letters: K classes, h W rows and columns of a band, n bands of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from components.predict.scores.blending import Band

CLASSES = "classes"

NODATA = 255
"""No class."""

SENSORS = ("none", "image", "DSM", "image and DSM")
"""Meaning of the values of the layer `sensors`."""

STEPS = 65_535
"""Entropies are sums of values from a table with this many steps of the probability: a logarithm may differ in the last
bit between two positions of an array, and a table lookup cannot. The error is below 0.01 percent."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of a map."""

    pixels: Callable[[Band], Tensor]  # band of scores -> uint8 `[n, h, W]`, without nodata
    bands: Callable[[Sequence[str]], list[str]]  # names of classes -> descriptions of the bands
    overviews: Literal["MODE", "AVERAGE"]
    nodata: int = NODATA
    percent: bool = False


def _percent(shares: Tensor) -> Tensor:
    return (shares * 100).round().to(torch.uint8)


def _classes(band: Band) -> Tensor:
    return band.probabilities_KhW.max(0, True).indices.to(torch.uint8)  # much faster than argmax on a CPU


def _gates(band: Band) -> Tensor:
    assert band.gates_hW is not None
    return _percent(band.gates_hW)[None]


def _entropy(band: Band) -> Tensor:
    probabilities = band.probabilities_KhW
    table = _terms(len(probabilities)).to(probabilities.device)
    total = torch.zeros_like(probabilities[0])
    for probability in probabilities:
        total += table[(probability * STEPS).round().to(torch.int32)]
    return _percent(total.clamp(max=1))[None]


@lru_cache(maxsize=4)
def _terms(classes: int) -> Tensor:
    """-p ln p / ln K of every step of p, `[STEPS + 1]`."""
    p = np.linspace(0, 1, STEPS + 1)
    terms = -p * np.log(np.maximum(p, 1e-30)) / np.log(max(classes, 2))
    return torch.from_numpy(terms.astype(np.float32))


LAYERS: Mapping[str, MapLayer] = {
    CLASSES: MapLayer(_classes, lambda _: ["class"], "MODE"),
    "confidence": MapLayer(
        lambda band: _percent(band.probabilities_KhW.amax(0, True)), lambda _: ["confidence"], "AVERAGE", percent=True
    ),
    "entropy": MapLayer(_entropy, lambda _: ["entropy"], "AVERAGE", percent=True),
    "probabilities": MapLayer(
        lambda band: _percent(band.probabilities_KhW),
        lambda classes: [f"probability of {name}" for name in classes],
        "AVERAGE",
        percent=True,
    ),
    "gates": MapLayer(_gates, lambda _: ["weight of the image"], "AVERAGE", percent=True),
    "sensors": MapLayer(lambda band: torch.from_numpy(band.sensors_hW)[None], lambda _: ["sensors"], "MODE", nodata=0),
}
"""Layers by name, in the order in which they are written; the class map is always written."""


def layer_names(extras: Collection[str]) -> tuple[str, ...]:
    """The class map and the layers that a user asked for, in the order of `LAYERS`."""
    return tuple(name for name in LAYERS if name == CLASSES or name in extras)


def layer_path(output: Path, name: str) -> Path:
    """File of a layer: `O.tif` of the classes, `O_confidence.tif` and so on next to it."""
    return output if name == CLASSES else output.with_name(f"{output.stem}_{name}{output.suffix}")


def layers_of(band: Band, names: Sequence[str]) -> dict[str, Pixels]:
    """Pixels of the layers of a band, `[n, h, W]` each; copied to the host at once.

    Args:
        band: finished scores.
        names: of layers; `gates` only for a network that has gates.
    """
    device = band.probabilities_KhW.device
    parts = [LAYERS[name].pixels(band).to(device) for name in names]
    pixels = torch.cat(parts).cpu().numpy()
    ends = np.cumsum([len(part) for part in parts])
    layers = dict(zip(names, np.split(pixels, ends[:-1]), strict=True))
    missing = band.sensors_hW == 0
    for name, layer in layers.items():
        layer[:, missing] = LAYERS[name].nodata
    return layers
