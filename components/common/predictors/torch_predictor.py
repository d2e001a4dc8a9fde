"""A network of this project's code as a predictor, in torch on any device.

In: a `.safetensors` file. Out: a `Predictor`, which also gives the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.inference.given_sensors import runs_by_condition
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.inference.precision import chosen, in_precision
from components.common.params import Wanted
from components.common.predictors.predictor import Maps, ModelIdentity, Predictor
from components.common.scoring.gates import GateMap, has_gates
from model import MoBaNet
from model.inputs import normalise_image, padded_side
from model.speed import Precision, autocast


class TorchPredictor:
    """A network in torch."""

    fixed_window = False

    def __init__(
        self,
        network: MoBaNet,
        facts: ModelFacts,
        identity: ModelIdentity,
        device: torch.device,
        window_px: int,
        precision: Precision,
    ) -> None:
        self._network, self._gates = network, GateMap()
        self.facts, self.identity, self.device, self.window_px = facts, identity, device, window_px
        self.precision = precision
        self.patch_size, self.has_gates = network.patch_size, has_gates(network)
        self.by_condition = runs_by_condition(network.config)

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        """Logits and gates of a batch of windows; see `Predictor`."""
        # autocast belongs to a thread, and other threads than the one that opened the network may call it
        with torch.inference_mode(), autocast(self.precision, self.device):
            rgb = dsm = None
            if image_BCHW is not None and "rgb" in self._modalities:
                rgb = normalise_image(image_BCHW, self.facts.image_mean, self.facts.image_std)
            if dsm_B1HW is not None and "dsm" in self._modalities:
                dsm = dsm_B1HW.float()
            if not self.has_gates:
                return Maps(self._network(rgb, dsm), None)
            logits_BKHW, gates = self._network.forward_with_gates(rgb, dsm)
            gates_B1HW = F.interpolate(self._gates.maps(gates).float(), size=logits_BKHW.shape[-2:])
            return Maps(logits_BKHW, gates_B1HW)

    @property
    def _modalities(self) -> tuple[str, ...]:
        return self._network.config.modalities


@contextmanager
def open_network(
    path: Path, identity: ModelIdentity, device: torch.device, window_px: int | None, precision: Wanted
) -> Iterator[Predictor]:
    """Open a `.safetensors` file on a device; arguments and errors as with `open_model`."""
    network, facts = load_model(path)
    side = padded_side(window_px or facts.window_px, network.patch_size)
    used = chosen(precision, facts, device)
    with in_precision(network.to(device), facts, device, used):
        yield TorchPredictor(network, facts, identity, device, side, used)
