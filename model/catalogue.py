"""List the pretrained backbones that the network supports, read from timm's registry.

In: a name pattern, or none. Out: one `Pretrained` per set of weights, sorted by family and size.
Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import timm
from timm.models import model_entrypoint
from torch.overrides import TorchFunctionMode

from model.backbone import FAMILIES, build_backbone
from model.config import MoBaNetConfig

FILLS = {
    *("kaiming_uniform_", "trunc_normal_", "normal_", "uniform_", "ones_", "zeros_"),  # of torch.nn.init
    *("add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "zero_"),  # of timm's own initialisation
}
"""Functions that initialise weights."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A set of pretrained weights and its backbone."""

    name: str  # as in `MoBaNetConfig.backbone`: timm's backbone name, a dot, timm's name of the weights
    weights: int  # number of weights
    patch_px: int  # side of a patch, pixels
    positions: str  # the family, named after its position encoding
    licence: str  # of the weights, as timm states it; "unknown" if timm states none


def pretrained_backbones(pattern: str | None = None) -> list[Pretrained]:
    """List the supported backbones, sorted by family and size.

    Args:
        pattern: pattern of names with * and ?; None lists foundation models, that is, weights without a classifier.
    """
    licences: dict[str, dict[str, str]] = {}  # backbone -> its sets of weights and their licences
    for name in timm.list_pretrained():
        backbone, facts = name.split(".")[0], timm.get_pretrained_cfg(name)
        if model_entrypoint(backbone).__annotations__.get("return") not in FAMILIES or facts is None:
            continue
        if fnmatch(name, pattern) if pattern else facts.num_classes == 0:
            licences.setdefault(backbone, {})[name] = facts.license or "unknown"
    found = [entry for backbone, weights in licences.items() for entry in _describe(backbone, weights)]
    return sorted(found, key=lambda entry: (entry.positions, entry.weights, entry.name))


def licence(name: str) -> str:
    """Licence of the weights that timm downloads for a backbone, as timm states it; "unknown" if it states none."""
    facts = timm.get_pretrained_cfg(name)
    return (facts.license if facts else None) or "unknown"


def _describe(backbone: str, licences: dict[str, str]) -> list[Pretrained]:
    try:
        with Unfilled():
            made = build_backbone(MoBaNetConfig(backbone=backbone, backbone_args={"device": "meta"}))
    except ValueError:  # the class is supported, but not its layers
        return []
    size = sum(parameter.numel() for parameter in made.parameters())
    return [Pretrained(name, size, made.patch_size, made.positions, licence) for name, licence in licences.items()]


class Unfilled(TorchFunctionMode):
    """Skips the initialisation of weights: enough to count them, and several times as fast."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return a tensor that would be initialised unchanged; call every other function."""
        if getattr(function, "__name__", "") in FILLS:
            return args[0] if args else next(iter(kwargs.values()))
        return function(*args, **(kwargs or {}))
