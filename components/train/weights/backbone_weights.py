"""Load pretrained backbone weights from the hub, a file or S3. A failure is an error; there is no fallback source."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from components.common.errors import WeightsError
from components.common.inference.modelfile import InitialWeights
from components.train.checkpoints.checkpoint_format import fingerprint
from components.train.weights import weight_files
from components.train.weights.weight_files import WeightSet, plain
from model import MoBaNet
from model.catalogue import licence
from model.finite import first_non_finite
from model.vit import ViT

log = logging.getLogger(__name__)

RANDOM = InitialWeights(source="none", sha256=None, licence="none needed (random weights)")


def load_backbone_weights(network: MoBaNet, source: str) -> InitialWeights:
    """Load backbone weights from `source` and initialise the trainable patch embeddings from them.

    Args:
        network: newly built network; with `none` it keeps its random weights.
        source: `none`, `hub`, a path, or `s3://bucket/key`.

    Returns:
        Where the weights come from; the sha256 is that of the loaded tensors.

    Raises:
        WeightsError: the weights cannot be downloaded or read, do not fit the backbone, or are not finite. If names,
            shapes or types differ, the message contains the first difference.
    """
    if source == "none":
        log.info("backbone weights: random (model.weights: none)")
        return RANDOM
    backbone, name = network.encoder.backbone, network.config.backbone
    if source == "hub":
        sets, terms = [WeightSet("", _from_hub(name, network.config.backbone_args), False)], licence(name)
    else:
        sets, terms = weight_files.weight_sets(weight_files.read(source)), f"unknown (file {Path(source).name})"
    tensors = _choose(sets, backbone, source, f"use weights for {name}")
    if odd := weight_files.unusable(tensors):
        raise WeightsError(f"{source}: {odd}; save it as a dense float32 tensor")
    if bad := first_non_finite(tensors):
        raise WeightsError(f"{source}: {bad} contains NaN or infinite values; use another file")
    fit_backbone(backbone, tensors, source, f"use weights for {name}")
    network.encoder.reset_patch_embeddings()
    sha256 = fingerprint(backbone.vit.state_dict())
    log.info("backbone weights: %s, sha256 %s, licence %s", source, sha256[:12], terms)
    return InitialWeights(source, sha256, terms)


def fit_backbone(backbone: ViT, tensors: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Load weights into a backbone, under timm's names or the names of their release.

    Args:
        backbone: the backbone to fill.
        tensors: its weights.
        source: origin of the weights, for messages.
        remedy: what to do if the weights do not fit, for messages.

    Raises:
        WeightsError: a weight is missing, unknown, or has another shape or type.
    """
    fitted, problem = _match(backbone, tensors)
    if problem:
        raise WeightsError(f"{source}: {problem}; {remedy}")
    backbone.vit.load_state_dict(fitted)


def _choose(sets: list[WeightSet], backbone: ViT, source: str, remedy: str) -> dict[str, Tensor]:
    """The set of weights that fits the backbone; of a teacher and its student, the teacher.

    Raises:
        WeightsError: the file contains no weights, or several sets fit and none or more than one is a teacher's.
    """
    if not sets:
        raise WeightsError(f"{source}: contains no tensors; {remedy}")
    fitting = [found for found in sets if len(sets) == 1 or not _match(backbone, found.tensors)[1]] or sets
    averaged = [found for found in fitting if found.averaged]
    chosen = fitting if len(fitting) == 1 else averaged
    if len(chosen) != 1:
        places = ", ".join(found.place or "the top level" for found in fitting)
        raise WeightsError(
            f"{source}: contains {len(fitting)} sets of weights ({places}); save one of them to a file of its own and "
            "set model.weights to that file"
        )
    if len(sets) > 1:
        others = ", ".join(found.place or "the top level" for found in sets if found is not chosen[0])
        log.info("%s: uses %s; the file also contains %s", source, chosen[0].place or "the top level", others)
    return chosen[0].tensors


def _match(backbone: ViT, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """Weights under timm's names, and the first difference from the backbone; None if everything fits."""
    try:
        with redirect_stdout(None):  # timm prints a line for every optional bias of DINOv3
            renamed = backbone.rename_released(dict(tensors), backbone.vit)
    except Exception as error:  # timm's conversion fails in many ways if a name or a shape is unexpected
        return {}, f"does not fit ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    needed = backbone.vit.state_dict()
    given = {key: tensor for key, tensor in renamed.items() if not key.startswith(backbone.ignored_prefixes)}
    for kind, keys in (
        ("lacks", [key for key in needed if key not in given]),
        ("also contains", [key for key in given if key not in needed]),
    ):
        if keys:
            return {}, f"{kind} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
    for key, tensor in given.items():
        if tensor.shape != needed[key].shape:
            return {}, f"{key} has the shape {list(tensor.shape)}, the network needs {list(needed[key].shape)}"
        if tensor.is_floating_point() != needed[key].is_floating_point():
            return {}, f"{key} has the type {plain(tensor.dtype)}, the network needs {plain(needed[key].dtype)}"
    return given, None


def _from_hub(name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0, **arguments).state_dict())
    except Exception as error:  # huggingface_hub, requests and timm raise many types
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"hub weights of {name}: download failed ({reason}); "
            "set model.weights to a local file, an s3:// URI or none"
        ) from None
