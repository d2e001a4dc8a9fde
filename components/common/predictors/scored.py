"""Open a model of any format for scoring, so that evaluate and its figures mean the same for all of them.

In: a model file, a package folder or `models:/NAME@ALIAS`. Out: `ScoredModel`, whose network has the interface of
`MoBaNet`. An exported file runs on the CPU and has no gates. Letters: B batch, K classes, C bands, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from components.common.exported.graph_layout import Computed
from components.common.files import digest
from components.common.inference.any_network import AnyNetwork
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.inference.precision import effective, training_precision
from components.common.predictors.models import located, open_model
from components.common.predictors.predictor import Predictor

EXPORTED = (".onnx", ".pt2")


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model, ready to score."""

    network: AnyNetwork  # in evaluation mode, on `device`, in the precision of its training
    facts: ModelFacts
    device: torch.device
    precision: Computed
    sha256: str  # of the file
    exported: bool  # whether it is a file for another runtime
    fixed_px: int | None  # the only side of a window that it takes, pixels; None: any


class ExportedNetwork:
    """A predictor of an exported file with the interface of `MoBaNet`."""

    def __init__(self, predictor: Predictor) -> None:
        """Take an open predictor."""
        self._predictor, facts = predictor, predictor.facts
        self.config = replace(facts.network, dgfm=False)  # no gates come out of a file
        self._patch_size = predictor.window_px if predictor.fixed_window else predictor.patch_size
        self._mean_C11, self._std_C11 = (
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (facts.image_mean, facts.image_std)
        )

    @property
    def patch_size(self) -> int:
        """Sides of an input are multiples of it, pixels; smaller tiles are padded with NaN."""
        return self._patch_size

    def __call__(self, rgb_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Tensor:
        """Logits `[B, K, H, W]` of normalised inputs, which become 0..255 again: the file normalises itself."""
        image_BCHW = None if rgb_BCHW is None else (rgb_BCHW * self._std_C11 + self._mean_C11) * 255
        return self._predictor(image_BCHW, dsm_B1HW).logits_BKHW

    def forward_with_gates(self, rgb: Tensor | None, dsm: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Logits `[B, K, H, W]` as above, and no gates."""
        return self(rgb, dsm), []


@contextmanager
def open_scored(model: Path, device: torch.device) -> Iterator[ScoredModel]:
    """Open a model; it can be used until the block ends.

    Args:
        model: as `open_model` takes it; a file without a known ending is read as safetensors, because Kubeflow stores
            weights without one.
        device: device of a network; an exported file runs on the CPU.

    Raises:
        WeightsError, TrackingError: as with `open_model`.
    """
    with ExitStack() as stack:
        path, _ = located(str(model), stack)
        if path.suffix.lower() in EXPORTED:
            predictor = stack.enter_context(open_model(str(path), device))
            fixed_px = predictor.window_px if predictor.fixed_window else None
            yield ScoredModel(
                ExportedNetwork(predictor),
                predictor.facts,
                predictor.device,
                predictor.precision,
                predictor.identity.sha256,
                True,
                fixed_px,
            )
            return
        network, facts = load_model(path)
        stack.enter_context(training_precision(network.to(device), facts, device))
        precision = effective(facts.precision, device)
        yield ScoredModel(network, facts, device, precision, digest(path), False, None)
