"""Whether a store holds the inputs of a model, and windows of it as the model sees them.

In: the facts of a model, a store. Out: an error if bands, pixel values or heights were prepared for another model;
windows of the network's size. Letters: N windows, C image bands, H W pixels of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.store import Heights, Store, Tile
from components.common.errors import StoreError
from components.common.inference.modelfile import ModelFacts

SAME = {
    "classes": "classes",
    "bands": "image bands",
    "image_range": "image values that become 0 and 255",
    "heights": "settings of the heights",
}
"""Facts that a store and a model must share -> how a message names them."""

DATASET = "use the data set that the model was trained on"
RESCORE = "score the model with `mobanet registry rescore`, which prepares the raw tiles as the model expects them"


def require_inputs_of(facts: ModelFacts, store: Store, model: Path) -> None:
    """Check that a store holds the inputs of a model; another data version is no error.

    Args:
        facts: facts of the model.
        store: the store.
        model: file of the model, for the message.

    Raises:
        StoreError: classes, bands, image range or heights differ, so the network would get inputs that it does not
            know.
    """
    for name, words in SAME.items():
        stored, trained = getattr(store.manifest, name), getattr(facts, name)
        if stored != trained:
            ours, theirs = _described(stored, trained)
            remedy = DATASET if name == "classes" else RESCORE
            raise StoreError(f"{store.path}: the {words} are {ours}, but {model} was trained with {theirs}; {remedy}")


def _described(stored: Any, trained: Any) -> tuple[str, str]:
    """Two values that differ as words; of heights, only the fields that differ."""
    if not isinstance(stored, Heights):
        return ", ".join(map(str, stored)), ", ".join(map(str, trained))
    ours, theirs = asdict(stored), asdict(trained)
    names = [name for name in ours if ours[name] != theirs[name]]
    return _listed(ours, names), _listed(theirs, names)


def _listed(settings: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {settings[name]}" for name in names)


@dataclass(frozen=True, slots=True)
class ModelWindows:
    """Pixels of some windows, all of the network's size; black and NaN where a tile is smaller than a window."""

    image_NHWC: npt.NDArray[np.uint8]
    dsm_NHW: npt.NDArray[np.float32]  # scaled heights; NaN = not measured


def spread_windows(tiles: Sequence[Tile], side_px: int, count: int) -> ModelWindows:
    """Cut `count` windows from tiles, in turn, at places that move from the upper left to the lower right.

    Args:
        tiles: tiles in the model's input space, at least one.
        side_px: side of a window, pixels.
        count: number of windows, 1 or more.
    """
    bands = tiles[0].image_HWC.shape[-1]
    image_NHWC = np.zeros((count, side_px, side_px, bands), np.uint8)
    dsm_NHW = np.full((count, side_px, side_px), np.nan, np.float32)
    for index in range(count):
        tile, share = tiles[index % len(tiles)], (index + 1) / (count + 1)
        top, left = (int(max(0, size - side_px) * share) for size in tile.dsm_HW.shape)
        part = np.s_[top : top + side_px, left : left + side_px]
        height, width = tile.dsm_HW[part].shape
        image_NHWC[index, :height, :width] = tile.image_HWC[part]
        dsm_NHW[index, :height, :width] = tile.dsm_HW[part]
    return ModelWindows(image_NHWC, dsm_NHW)
