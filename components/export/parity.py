"""Compare the ONNX graph with the network: for the same inputs, logits may differ by rounding only.

In: a network, its facts, an ONNX file. Out: `Parity`, with the largest difference of every case. The network gets every
sample on its own, and None for a sensor that the sample lacks, as predict does; the graph gets NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from components.common.errors import MobanetError, NonFiniteError
from components.common.inference.given_sensors import measured
from components.common.inference.graph_inputs import INPUTS, stored_heights, stored_pixels
from components.common.inference.modelfile import ModelFacts
from components.common.inference.precision import effective, training_precision
from components.export.formats.onnx_graph import OUTPUT, input_shapes
from model import MoBaNet
from model.inputs import normalise
from model.speed import Precision

Inputs = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Image `[N, bands, H, W]`, 0..255, and scaled heights `[N, 1, H, W]`; NaN means "not measured"."""


Answer = tuple[str, Inputs, npt.NDArray[np.float32]]
"""Name of a case, its inputs, and the graph's logits `[N, K, H, W]`."""

CPU = torch.device("cpu")


class ParityError(MobanetError):
    """The logits of the exported graph differ from those of the network."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of one case."""

    name: str
    samples: int  # batch size
    largest_difference: float  # largest absolute difference of logits
    changed_px: int  # pixels with a different class


@dataclass(frozen=True, slots=True)
class Parity:
    """Results of all cases."""

    tolerance: float  # largest accepted absolute difference of logits
    largest_difference: float  # largest absolute difference of logits in all cases
    precision: Precision  # precision of the training and of the scores, on this device; the graph is float32
    same_class_share: float  # share of pixels of all cases with the same class in the graph as in that precision, 0..1
    cases: tuple[CaseResult, ...]


def check(network: MoBaNet, facts: ModelFacts, onnx_file: Path, tolerance: float) -> Parity:
    """Compare the logits of the network and the graph on every case.

    Raises:
        NonFiniteError: the network itself gives logits that are NaN or infinite.
        ParityError: the logits of a case differ by more than the tolerance, or those of the graph are NaN.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    network.eval()
    answers = [(name, inputs, session.run([OUTPUT], as_stored(facts, inputs))[0]) for name, inputs in cases(facts)]
    results = [
        _compare(name, _finite_logits(network, facts, name, inputs), answered) for name, inputs, answered in answers
    ]
    worst = max(results, key=lambda result: np.nan_to_num(result.largest_difference, nan=np.inf))
    if not worst.largest_difference <= tolerance:
        total_px = worst.samples * facts.window_px**2
        raise ParityError(
            f"{onnx_file.name}: logits differ from the network's by {worst.largest_difference:.3g} ({worst.name}), "
            f"more than export.tolerance {tolerance:.3g}, and {worst.changed_px} of {total_px} "
            "pixels change class; try another export.opset, or raise export.tolerance if this is acceptable"
        )
    precision, share = _same_class_share(network, facts, answers)
    return Parity(tolerance, worst.largest_difference, precision, share, tuple(results))


def as_stored(facts: ModelFacts, inputs: Inputs) -> dict[str, npt.NDArray[np.float32]]:
    """The inputs of a graph: pixels as stored and heights in metres."""
    image, dsm = inputs
    return dict(zip(INPUTS, (stored_pixels(image, facts), stored_heights(dsm, facts)), strict=True))


def _same_class_share(network: MoBaNet, facts: ModelFacts, answers: Sequence[Answer]) -> tuple[Precision, float]:
    """The precision in which this machine scores the network, and the share of pixels with the graph's class in it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with training_precision(network.to(device), facts, device):
        same = [
            logits(network, facts, inputs, device).argmax(1) == answered.argmax(1) for _, inputs, answered in answers
        ]
    network.to(CPU)
    return effective(facts.precision, device), float(np.mean(np.concatenate([pixels.ravel() for pixels in same])))


def _finite_logits(network: MoBaNet, facts: ModelFacts, name: str, inputs: Inputs) -> npt.NDArray[np.float32]:
    found = logits(network, facts, inputs, CPU)
    if not np.isfinite(found).all():
        raise NonFiniteError(
            f"the network's own logits are NaN or infinite ({name}), so no graph of it can be used; train again with a "
            "lower train.learning_rate or with train.max_gradient_norm"
        )
    return found


def logits(network: MoBaNet, facts: ModelFacts, inputs: Inputs, device: torch.device) -> npt.NDArray[np.float32]:
    """Logits `[N, K, H, W]` of a network on `device`, in evaluation mode, sample by sample."""
    image, dsm = (torch.from_numpy(array).to(device) for array in inputs)
    samples = zip(*(x.split(1) for x in normalise(image, dsm, facts.image_mean, facts.image_std)), strict=True)
    with torch.inference_mode():
        parts = [network(*measured(rgb, dsm, facts.network)) for rgb, dsm in samples]
    found: npt.NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return found


def cases(facts: ModelFacts) -> Iterator[tuple[str, Inputs]]:
    """Yield (name, inputs) to compare: noise in two batch sizes, and extreme or missing values of either sensor.

    The last batch has one sample per condition.
    """
    rng = np.random.default_rng(0)
    image_shape, dsm_shape = input_shapes(facts).values()

    def noise(samples: int) -> Inputs:
        image = rng.integers(0, 256, (samples, *image_shape)).astype(np.float32)
        return image, rng.uniform(*facts.heights.clip, (samples, *dsm_shape)).astype(np.float32)

    yield "noise", noise(1)
    yield "noise, batch of 3", noise(3)
    image, dsm = noise(1)
    holes = np.where(rng.random(dsm.shape) < 0.3, np.float32(np.nan), dsm)
    yield "black image", (np.zeros_like(image), dsm)
    yield "white image", (np.full_like(image, 255), dsm)
    yield "flat ground", (image, np.zeros_like(dsm))
    yield "heights with holes", (image, holes)
    no_image, no_dsm = np.full_like(image, np.nan), np.full_like(dsm, np.nan)
    left = np.arange(facts.window_px) < facts.window_px // 2
    yield "half of the DSM missing", (image, np.where(left, no_dsm, dsm))
    yield "half of the image missing", (np.where(left, image, no_image), dsm)
    yield "DSM missing", (image, no_dsm)
    yield "image missing", (no_image, dsm)
    yield "other sensors per sample", (np.concatenate([image, image, no_image]), np.concatenate([holes, no_dsm, dsm]))


def _compare(name: str, expected: npt.NDArray[np.float32], answered: npt.NDArray[np.float32]) -> CaseResult:
    changed = int((expected.argmax(1) != answered.argmax(1)).sum())
    return CaseResult(name, len(expected), float(np.abs(expected - answered).max()), changed)
