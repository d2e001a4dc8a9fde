"""Start a training from an earlier model of this project, also with other classes, bands, modalities or modules.

In: a new network and a file of `save_model`. Out: the network with every weight of the earlier model that fits.
Classes, bands and modalities are matched by name: a class that both models have keeps its row of the classifier, at
whatever position it stands. All other weights must have the same name and shape, else they keep their new values.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from components.common.errors import WeightsError
from components.common.files import digest
from components.common.inference.modelfile import InitialWeights, ModelFacts, load_model
from components.train.weights.backbone_weights import fit_backbone
from model import MoBaNet

log = logging.getLogger(__name__)

BACKBONE = "encoder.backbone.vit."

NAMED_AXES: tuple[tuple[str, int, Literal["classes", "bands", "modalities"]], ...] = (
    (r"decoder\.classifier\.1\.weight", 0, "classes"),
    (r"aux\.\w+\.classifier\.weight", 0, "classes"),
    (r"encoder\.image_patch_embedding\.weight", 1, "bands"),
    (r"encoder\.cpia\.\d+\.(gamma|beta)_MC", 0, "modalities"),
    (r"encoder\.cpia\.\d+\.mix\.weight", 1, "modalities"),
)
"""Pattern of a weight's name, axis of the weight, and the names along that axis: one row or block of rows per name."""

CPIA_INPUT = re.compile(r"(encoder\.cpia\.\d+\.down\.)(\d+)(\..+)")
"""Weights of one modality, which is numbered in the name."""


class Names(NamedTuple):
    """What the outputs, inputs and streams of a network stand for, in order."""

    classes: tuple[str, ...]
    bands: tuple[str, ...]
    modalities: tuple[str, ...]


def load_earlier_model(network: MoBaNet, names: Names, path: Path, source: str) -> InitialWeights:
    """Fill a new network with the weights of an earlier model, and log what did not fit.

    Args:
        network: newly built network.
        names: classes, bands and modalities of the new network.
        path: file of the earlier model.
        source: its origin, for messages and for the record.

    Raises:
        WeightsError: the file is not a model of this project, has another backbone, or a weight is not
            finite.
    """
    earlier, facts = _read(path, source)
    given = earlier.state_dict()
    if facts.network.backbone != network.config.backbone:
        raise WeightsError(
            f"{source}: the backbone is {facts.network.backbone}, but model.backbone is {network.config.backbone}; "
            "set both to the same backbone, or set model.init: null"
        )
    vit = {name.removeprefix(BACKBONE): tensor for name, tensor in given.items() if name.startswith(BACKBONE)}
    remedy = f"set model.backbone_args to those of the earlier model: {facts.network.backbone_args}"
    fit_backbone(network.encoder.backbone, vit, source, remedy)
    network.encoder.reset_patch_embeddings()
    before = Names(facts.classes, facts.bands, facts.network.modalities)
    parts = _fill(network.state_dict(), given, names, before)
    _report(source, parts, names, before)
    return InitialWeights(source, digest(path), facts.initial_weights.licence, parts)


def _read(path: Path, source: str) -> tuple[MoBaNet, ModelFacts]:
    try:
        return load_model(path)
    except WeightsError as error:
        problem = str(error).removeprefix(f"{path}: ").rpartition("; ")[0]
        raise WeightsError(
            f"{source}: {problem}; set model.init to a file that the train or export step wrote; pretrained weights of "
            "a backbone belong in model.weights"
        ) from None


def _fill(target: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Names, before: Names) -> dict[str, str]:
    """Copy every weight that fits into `target`, in place; part of the network -> how much of it was filled.

    The backbone is complete already, but timm resamples patch and position embeddings of another size.
    """
    filled, total, unused, resampled = Counter[str](), Counter[str](), dict.fromkeys(given), Counter[str]()
    for name, tensor in target.items():
        part, origin = part_of(name), _origin(name, names, before)
        total[part] += tensor.numel()
        if origin not in given:
            continue
        if part == "backbone":
            copied = tensor.numel()
            resampled[part] += tensor.shape != given[origin].shape
        else:
            copied = _copy(tensor, given[origin], _axis(name, names, before))
        filled[part] += copied
        if copied:
            unused.pop(origin)
    left_over = Counter(part_of(name) for name in unused)
    return {part: _amount(filled[part], total[part], left_over[part], resampled[part]) for part in total | left_over}


def _amount(filled: int, total: int, left_over: int, resampled: int) -> str:
    amount = "complete" if filled == total else f"{filled} of {total} values" if filled else "new"
    resized = f"{resampled} tensors resampled to another size" if resampled else ""
    unused = f"{left_over} tensors of the earlier model unused" if left_over else ""
    return ", ".join(filter(None, [amount if total else "not in this network", resized, unused]))


def _origin(name: str, names: Names, before: Names) -> str:
    """Name of a weight in the earlier network; empty if that network does not have the weight's modality."""
    if (match := CPIA_INPUT.fullmatch(name)) is None:
        return name
    modality = names.modalities[int(match[2])]
    return f"{match[1]}{before.modalities.index(modality)}{match[3]}" if modality in before.modalities else ""


def _axis(name: str, names: Names, before: Names) -> tuple[int, tuple[str, ...], tuple[str, ...]] | None:
    """Axis of a weight whose rows have names, with the new and the earlier names; None if there is none."""
    for pattern, axis, kind in NAMED_AXES:
        if re.fullmatch(pattern, name):
            return axis, getattr(names, kind), getattr(before, kind)
    return None


def _copy(target: Tensor, given: Tensor, named: tuple[int, tuple[str, ...], tuple[str, ...]] | None) -> int:
    """Copy what fits of one weight; returns the number of copied values.

    Without a named axis, that is everything or nothing.
    """
    if named is None:
        if target.shape != given.shape:
            return 0
        target.copy_(given)
        return target.numel()
    axis, new, old = named
    rows, rest = target.shape[axis] // len(new), divmod(given.shape[axis], len(old))
    if rest != (rows, 0) or target.select(axis, 0).shape != given.select(axis, 0).shape:
        return 0
    common = [name for name in new if name in old]
    for name in common:
        target.narrow(axis, new.index(name) * rows, rows).copy_(given.narrow(axis, old.index(name) * rows, rows))
    return target.numel() // len(new) * len(common)


def part_of(name: str) -> str:
    """The part of the network that a weight belongs to: a module of the encoder, the decoder, the classifier or aux."""
    first, second, *_ = name.split(".")
    if name.startswith("decoder.classifier."):
        return "classifier"
    return second if first == "encoder" else first


def _report(source: str, parts: Mapping[str, str], names: Names, before: Names) -> None:
    """Log one line for every part, and one for classes, bands and modalities that differ."""
    log.info("starting from %s", source)
    for part, amount in parts.items():
        log.info("  %s: %s", part, amount)
    for kind, new, old in zip(Names._fields, names, before, strict=True):
        for text, some in (("new", set(new) - set(old)), ("no longer used", set(old) - set(new))):
            if some:
                log.info("  %s: %s %s", kind, text, ", ".join(sorted(some)))
