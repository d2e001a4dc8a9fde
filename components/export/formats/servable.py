"""The network from pixels as stored to answers, as one module that exporters trace.

In: pixels as files store them and heights in metres (`graph_inputs.dsm_values` says of which kind), NaN where nothing
was measured. Out: logits, classes or confidence. Every format of a package is made of these modules.
Letters: B batch, C image bands, K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from components.common.data.height_scaling import PLAUSIBLE_M
from components.common.inference.modelfile import ModelFacts, temperature_of
from components.export.config import Output
from model import MoBaNet
from model.inputs import normalise
from model.mobanet import conditions_of

LARGEST = torch.finfo(torch.float32).max


class StoredInputs(nn.Module):
    """Pixels as stored and heights in metres -> inputs of the network, as the readers of rasters convert them."""

    pixel_low: Tensor
    pixel_range: Tensor
    offset_m: Tensor
    scale_m: Tensor

    def __init__(self, facts: ModelFacts) -> None:
        """Take ranges, normalisation and height scaling from `facts`."""
        super().__init__()
        low, high = facts.image_range
        heights = facts.heights
        scaled = heights.offset_m is None or heights.scale_m is None  # per tile: the caller scales
        constants = {
            "pixel_low": low,
            "pixel_range": high - low,
            "offset_m": 0.0 if scaled else heights.offset_m,
            "scale_m": 1.0 if scaled else heights.scale_m,
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))
        self.clip = heights.clip
        self.mean, self.std = facts.image_mean, facts.image_std

    def forward(self, image_BCHW: Tensor, dsm_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised image `[B, C, H, W]` and scaled heights `[B, 1, H, W]`; NaN where nothing was measured.

        Args:
            image_BCHW: pixels as stored. A pixel with a band that is NaN or infinite was not measured.
            dsm_B1HW: heights; NaN and heights outside `PLAUSIBLE_M` were not measured.
        """
        return normalise(self.eight_bit(image_BCHW), self.scaled(dsm_B1HW), self.mean, self.std)

    def eight_bit(self, image_BCHW: Tensor) -> Tensor:
        """The image as whole numbers 0..255, as the store and predict have it; NaN where not measured."""
        finite_B1HW = (image_BCHW.abs() <= LARGEST).float().amin(1, keepdim=True) > 0
        known_BCHW = torch.where(finite_B1HW, image_BCHW, self.pixel_low)  # clipping may lose NaN in some runtimes
        values_BCHW = (known_BCHW - self.pixel_low) / self.pixel_range * 255
        return torch.where(finite_B1HW, values_BCHW.round().clamp(0, 255), torch.nan)

    def scaled(self, dsm_B1HW: Tensor) -> Tensor:
        """Scaled heights, NaN where not measured."""
        low_m, high_m = PLAUSIBLE_M
        measured_B1HW = (dsm_B1HW > low_m) & (dsm_B1HW < high_m)
        known_B1HW = torch.where(measured_B1HW, dsm_B1HW, self.offset_m)
        scaled_B1HW = (known_B1HW - self.offset_m) / self.scale_m
        return torch.where(measured_B1HW, scaled_B1HW.clamp(*self.clip), torch.nan)


class Probabilities(nn.Module):
    """Logits -> probabilities of the classes, with the temperature of the sensors that a sample has."""

    temperatures_S: Tensor

    def __init__(self, facts: ModelFacts) -> None:
        """Take the temperatures from `facts`; a condition without one has 1."""
        super().__init__()
        fused = len(facts.network.modalities) == 2
        conditions = ("rgb+dsm", "rgb", "dsm") if fused else facts.network.modalities  # in the order of conditions_of
        known = [temperature_of(facts, condition) or 1.0 for condition in conditions]
        self.register_buffer("temperatures_S", torch.tensor(known, dtype=torch.float32))
        self.fused = fused

    def forward(self, logits_BKHW: Tensor, rgb_BCHW: Tensor, dsm_B1HW: Tensor) -> Tensor:
        """Probabilities `[B, K, H, W]`; the inputs are normalised, NaN where not measured."""
        if self.fused:
            temperature = self.temperatures_S[conditions_of(rgb_BCHW, dsm_B1HW)][:, None, None, None]
        else:
            temperature = self.temperatures_S[0]
        return torch.softmax(logits_BKHW / temperature, dim=1)


class Servable(nn.Module):
    """A network that takes pixels as stored and heights in metres, and gives the selected outputs."""

    def __init__(self, network: MoBaNet, facts: ModelFacts, outputs: Sequence[Output] = ("logits",)) -> None:
        """Wrap a network; `facts` say how its inputs were prepared."""
        super().__init__()
        self.network = network
        self.inputs, self.probabilities = StoredInputs(facts), Probabilities(facts)
        self.outputs = tuple(outputs)

    def forward(self, image: Tensor, dsm: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of `outputs`; what NaN means is decided for every sample by itself.

        Args:
            image: `[B, C, H, W]`, pixels as stored; NaN everywhere in a sample: it lacks the image.
            dsm: `[B, 1, H, W]`, heights; NaN everywhere in a sample: it lacks the DSM.

        Returns:
            Of "logits" float32 `[B, K, H, W]`, of "classes" uint8 `[B, H, W]`, of "confidence" float32 `[B, H, W]`, the
            probability of that class, 0..1.
        """
        rgb, heights = self.inputs(image, dsm)
        logits_BKHW = cast(Tensor, self.network(rgb, heights))
        made: dict[Output, Callable[[], Tensor]] = {
            "logits": lambda: logits_BKHW,
            "classes": lambda: logits_BKHW.argmax(1).to(torch.uint8),
            "confidence": lambda: self.probabilities(logits_BKHW, rgb, heights).amax(1),
        }
        return tuple(made[name]() for name in self.outputs)
