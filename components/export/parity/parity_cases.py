"""What every format of a package is compared on, and what the network answers to it.

In: a network, its facts, crops of the validation tiles. Out: `Reference`, with the inputs of every case as a file takes
them (pixels as stored, heights in metres) and the network's answers. The network gets what the readers of rasters make
of these inputs, every sample on its own, and None for a sensor that the sample lacks, as predict does.
Letters: N samples, C image bands, K classes, H W pixels of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file

from components.common.data.height_scaling import PLAUSIBLE_M, scale_part
from components.common.errors import NonFiniteError
from components.common.exported.graph_inputs import dsm_values, stored_heights, stored_pixels
from components.common.inference.given_sensors import measured
from components.common.inference.modelfile import ModelFacts, condition_of, temperature_of
from components.common.inference.precision import effective, training_precision
from model import MoBaNet
from model.inputs import normalise
from model.speed import Precision

Array = npt.NDArray[np.float32]

Inputs = tuple[Array, Array]
"""Image `[N, C, H, W]`, pixels as stored, and heights `[N, 1, H, W]`, metres or as `dsm_values` says; NaN: missing."""

NODATA = (-9999.0, float(np.finfo(np.float32).max), np.inf, -np.inf, np.nan)
"""Numbers that files store where no height was measured."""

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs to compare, and the network's answers to them."""

    name: str
    inputs: Inputs
    of_tiles: bool  # crops of validation tiles: their share of pixels that change class is limited
    logits_NKHW: Array
    probabilities_NKHW: Array  # with the temperature of the sensors that a sample has

    @property
    def samples(self) -> int:
        """Size of the batch."""
        return len(self.inputs[0])

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.inputs[0].shape[2], self.inputs[0].shape[3]


@dataclass(frozen=True, slots=True)
class Reference:
    """The network's answers to all cases; computed once for all formats."""

    facts: ModelFacts
    cases: tuple[Case, ...]
    precision: Precision  # of the training and of the scores, on this device; `cases` are float32
    same_class_share: float  # share of pixels of all cases with the same class in that precision as in float32, 0..1


def make_reference(network: MoBaNet, facts: ModelFacts, crops: Path) -> Reference:
    """Compute the network's answers.

    Args:
        network: in evaluation mode, on the CPU, float32.
        facts: facts of the network.
        crops: file of `write_crops`.

    Raises:
        NonFiniteError: a logit of the network is NaN or infinite.
    """
    network.eval()
    wanted = [*noise_cases(facts, network.patch_size), *crop_cases(crops, facts)]
    cases = tuple(_answered(network, facts, *case) for case in wanted)
    return Reference(facts, cases, *_same_class_share(network, facts, cases))


def _answered(network: MoBaNet, facts: ModelFacts, name: str, inputs: Inputs, of_tiles: bool) -> Case:
    found_NKHW = logits(network, facts, inputs, CPU)
    if not np.isfinite(found_NKHW).all():
        raise NonFiniteError(
            f"the network's own logits are NaN or infinite ({name}), so no file of it can be used; train again with a "
            "lower train.learning_rate or with train.max_gradient_norm"
        )
    return Case(name, inputs, of_tiles, found_NKHW, _probabilities(found_NKHW, inputs, facts))


def logits(network: MoBaNet, facts: ModelFacts, inputs: Inputs, device: torch.device) -> Array:
    """Logits `[N, K, H, W]` of a network on `device`, in evaluation mode, sample by sample."""
    image, dsm = (torch.from_numpy(array).to(device) for array in as_read(inputs, facts))
    samples = zip(*(x.split(1) for x in normalise(image, dsm, facts.image_mean, facts.image_std)), strict=True)
    with torch.inference_mode():
        parts = [network(*measured(rgb, dsm, facts.network)) for rgb, dsm in samples]
    found: Array = torch.cat(parts).float().cpu().numpy()
    return found


def as_read(inputs: Inputs, facts: ModelFacts) -> Inputs:
    """What the readers of rasters make of pixels and heights: whole numbers 0..255, and scaled heights; NaN: missing.

    A pixel counts as missing if one of its bands is.
    """
    image, dsm = inputs
    low, high = facts.image_range
    with np.errstate(invalid="ignore"):
        pixels = np.rint((image - np.float32(low)) / np.float32(high - low) * 255).clip(0, 255)
    pixels = np.where(np.isnan(image).any(1, keepdims=True), np.float32(np.nan), pixels.astype(np.float32))
    lowest, highest = PLAUSIBLE_M
    metres = np.where((dsm > lowest) & (dsm < highest), dsm, np.float32(np.nan))
    if dsm_values(facts.heights) == "scaled":
        return pixels, metres.clip(*facts.heights.clip)
    rows, columns = slice(0, metres.shape[-2]), slice(0, metres.shape[-1])
    for sample in metres:
        scale_part(sample[0], rows, columns, facts.heights, None, None)
    return pixels, metres


def _probabilities(logits_NKHW: Array, inputs: Inputs, facts: ModelFacts) -> Array:
    parts = []
    for logits_KHW, image, dsm in zip(logits_NKHW, *as_read(inputs, facts), strict=True):
        given = condition_of(facts, image=not np.isnan(image).all(), dsm=not np.isnan(dsm).all())
        parts.append(torch.softmax(torch.from_numpy(logits_KHW) / (temperature_of(facts, given) or 1.0), 0))
    found: Array = torch.stack(parts).numpy()
    return found


def _same_class_share(network: MoBaNet, facts: ModelFacts, cases: tuple[Case, ...]) -> tuple[Precision, float]:
    """The precision in which this machine scores the network, and the share of pixels with the same class in it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with training_precision(network.to(device), facts, device):
        same = [logits(network, facts, case.inputs, device).argmax(1) == case.logits_NKHW.argmax(1) for case in cases]
    network.to(CPU)
    return effective(facts.precision, device), float(np.mean(np.concatenate([pixels.ravel() for pixels in same])))


def noise_cases(facts: ModelFacts, patch_px: int | None = None) -> Iterator[tuple[str, Inputs, bool]]:
    """Yield (name, inputs, False): noise in two batch sizes, and extreme or missing values of either sensor.

    With the side of a patch, the last input is larger than a window, by whole patches.
    """
    rng = np.random.default_rng(0)
    side = facts.window_px

    def noise(samples: int, height: int = side, width: int = side) -> Inputs:
        image = rng.integers(0, 256, (samples, len(facts.bands), height, width)).astype(np.float32)
        return image, rng.uniform(*facts.heights.clip, (samples, 1, height, width)).astype(np.float32)

    def stored(name: str, image: Array, dsm: Array) -> tuple[str, Inputs, bool]:
        return name, _stored(image, dsm, facts), False

    yield stored("noise", *noise(1))
    yield stored("noise, batch of 3", *noise(3))
    image, dsm = noise(1)
    no_image, no_dsm = np.full_like(image, np.nan), np.full_like(dsm, np.nan)
    holes = np.where(rng.random(dsm.shape) < 0.3, no_dsm, dsm)
    left = np.arange(side) < side // 2
    yield stored("black image", np.zeros_like(image), dsm)
    yield stored("white image", np.full_like(image, 255), dsm)
    yield stored("flat ground", image, np.zeros_like(dsm))
    yield stored("beyond the ranges", *_beyond(image, dsm))
    yield stored("heights with holes", image, holes)
    yield stored("half of the DSM missing", image, np.where(left, no_dsm, dsm))
    yield stored("half of the image missing", np.where(left, image, no_image), dsm)
    yield stored("DSM missing", image, no_dsm)
    yield stored("image missing", no_image, dsm)
    yield stored("nothing measured", no_image, no_dsm)
    mixed = np.concatenate([image, image, no_image]), np.concatenate([holes, no_dsm, dsm])
    yield stored("other sensors per sample", *mixed)
    if patch_px is not None:
        height, width = side + patch_px, side + 2 * patch_px
        yield stored(f"{height} x {width} px", *noise(2, height, width))


def _beyond(image: Array, dsm: Array) -> Inputs:
    """Values that reach beyond both ends, so that readers limit them, by a fifth and by half of each range."""
    return np.rint(1.4 * image - 51).astype(np.float32), 1.5 * dsm


def crop_cases(crops: Path, facts: ModelFacts) -> Iterator[tuple[str, Inputs, bool]]:
    """Yield (name, inputs, True) of crops of validation tiles: every condition, nodata, and the edge of a tile."""
    found = load_file(crops)
    image = np.ascontiguousarray(np.moveaxis(found["image"], -1, 1)).astype(np.float32)
    dsm = found["dsm"][:, None].astype(np.float32)
    image = np.where(_beyond_tile(image, dsm), np.float32(np.nan), image)
    no_image, no_dsm = np.full_like(image, np.nan), np.full_like(dsm, np.nan)
    number = np.arange(len(image))[:, None, None, None]

    def stored(name: str, image: Array, dsm: Array) -> tuple[str, Inputs, bool]:
        return f"crops, {name}", _stored(image, dsm, facts), True

    given = {"rgb+dsm": (image, dsm), "rgb": (image, no_dsm), "dsm": (no_image, dsm)}
    for condition in facts.conditions:
        yield stored(condition, *given[condition])
    if len(facts.conditions) > 1:
        mixed = np.where(number % 3 == 2, no_image, image), np.where(number % 3 == 1, no_dsm, dsm)
        yield stored("other sensors per sample", *mixed)
    name, (pixels, heights), _ = stored("nodata", image, dsm)
    side = dsm.shape[-1]
    holes_N1HW = _holes(dsm.shape, side // 8, 0)
    nodata = np.resize(np.array(NODATA, np.float32), heights.shape)
    heights = np.where(holes_N1HW, nodata, heights)
    yield name, (np.where(_holes(dsm.shape, side // 8, 1), no_image, pixels), heights), True
    there = np.arange(side) < side - side // 3
    inside_HW = there[:, None] & there
    yield stored("edge of a tile", np.where(inside_HW, image, no_image), np.where(inside_HW, dsm, no_dsm))


def _beyond_tile(image: Array, dsm: Array) -> npt.NDArray[np.bool_]:
    """The rows and columns with which a crop of a small tile is filled up, `[N, 1, H, W]`: black, without a height."""
    content_N1HW = (image != 0).any(1, keepdims=True) | ~np.isnan(dsm)
    beyond: npt.NDArray[np.bool_] = ~content_N1HW.any(3, keepdims=True) | ~content_N1HW.any(2, keepdims=True)
    return beyond


def _holes(shape: tuple[int, ...], cell_px: int, seed: int) -> npt.NDArray[np.bool_]:
    """Squares of `cell_px` in a quarter of the area, `[N, 1, H, W]`."""
    samples, channels, height, width = shape
    cell = max(1, cell_px)
    cells = np.random.default_rng(seed).random((samples, channels, -(-height // cell), -(-width // cell))) < 0.25
    return cells.repeat(cell, 2).repeat(cell, 3)[..., :height, :width]


def _stored(image: Array, dsm: Array, facts: ModelFacts) -> Inputs:
    """Inputs of a file, float32, from an image of 0..255 and scaled heights."""
    return stored_pixels(image, facts).astype(np.float32), stored_heights(dsm, facts).astype(np.float32)
