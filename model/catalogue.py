"""Which pretrained backbones can be used: read from timm's registry, so nothing here is a list to be kept up.

In: a pattern of names, or none. Out: a `Pretrained` per set of weights, by family and size. Nothing is downloaded.
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
    *("add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "zero_"),  # of what timm adds to these
}
"""Functions that give new weights their values."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A set of weights, and the backbone that it is for."""

    name: str  # as in `MoBaNetConfig.backbone`: timm's name of the backbone, a dot, its name of the weights
    weights: int  # how many
    patch_px: int
    positions: str  # the family: how tokens know where they are
    licence: str  # of the weights, as timm says; "unknown" where it does not


def pretrained_backbones(pattern: str | None = None) -> list[Pretrained]:
    """What can be used, by family and size.

    Args:
        pattern: of names, with * and ?; None: foundation models, those that timm has without a classifier.
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


def _describe(backbone: str, licences: dict[str, str]) -> list[Pretrained]:
    try:
        with Unfilled():
            made = build_backbone(MoBaNetConfig(backbone=backbone, backbone_args={"device": "meta"}))
    except ValueError:  # timm's class is right, but not what is in it
        return []
    size = sum(parameter.numel() for parameter in made.parameters())
    return [Pretrained(name, size, made.patch_size, made.positions, licence) for name, licence in licences.items()]


class Unfilled(TorchFunctionMode):
    """Weights are made, but get no values: enough to count them, and several times as fast."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave a tensor that is to be filled as it is."""
        if getattr(function, "__name__", "") in FILLS:
            return args[0] if args else next(iter(kwargs.values()))
        return function(*args, **(kwargs or {}))
