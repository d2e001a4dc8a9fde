"""Load pretrained backbone weights from the hub, a file or S3. A failure is an error; there is no fallback source."""

from __future__ import annotations

import logging
import pickle
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.common.errors import WeightsError
from components.common.files import digest
from components.train.checkpoint import fingerprint
from model import MoBaNet

log = logging.getLogger(__name__)


def load_backbone_weights(network: MoBaNet, source: str) -> str:
    """Load backbone weights from `source` and initialise the trainable patch embeddings from them.

    Args:
        network: newly built network; with `none` it keeps its random weights.
        source: `none`, `hub`, a path, or `s3://bucket/key`.

    Returns:
        Identity of the weights: `none`, or the sha256 of the loaded tensors.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit the backbone. If names differ, the message
            contains the first one.
    """
    if source == "none":
        log.info("backbone weights: random (model.weights: none)")
        return "none"
    backbone, name = network.encoder.backbone, network.config.backbone
    if source == "hub":
        state = _from_hub(name, network.config.backbone_args)
    elif source.startswith("s3://"):
        with tempfile.TemporaryDirectory() as folder:
            state = _from_file(_download(source, Path(folder)), source)
    else:
        state = _from_file(Path(source), source)
    try:
        with redirect_stdout(None):  # timm prints a line for every optional bias of DINOv3
            fitted = backbone.rename_released(dict(state), backbone.vit)
        left_over = backbone.vit.load_state_dict(fitted, strict=False)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{source}: does not fit {name} ({' '.join(str(error).split())[:300]})") from None
    unexpected = [key for key in left_over.unexpected_keys if not key.startswith(backbone.beside)]
    for kind, keys in (("lacks", left_over.missing_keys), ("also holds", unexpected)):
        if keys:
            raise WeightsError(f"{source}: {kind} {keys[0]} and {len(keys) - 1} more; use weights for {name}")
    network.encoder.reset_patch_embeddings()
    identity = fingerprint(backbone.vit.state_dict())
    log.info("backbone weights: %s, sha256 %s", source, identity[:12])
    return identity


def _from_hub(name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0, **arguments).state_dict())
    except Exception as error:  # huggingface_hub, requests and timm raise many types
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"hub weights of {name}: download failed ({reason}); "
            "set model.weights to a local file, an s3:// URI or none"
        ) from None


def _from_file(path: Path, source: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise WeightsError(f"{source}: file not found; correct model.weights") from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise WeightsError(
            f"{source}: damaged or not a plain weight file ({reason}); set model.weights to another file"
        ) from None
    if not isinstance(loaded, dict):
        raise WeightsError(
            f"{source}: contains a {type(loaded).__name__}, expected a dict; set model.weights to another file"
        )
    return loaded


def _download(uri: str, folder: Path) -> Path:
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = urlsplit(uri).netloc, urlsplit(uri).path.lstrip("/")
    target = folder / (Path(key).name or "weights")
    try:
        boto3.client("s3").download_file(bucket, key, str(target))
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise WeightsError(f"{uri}: download failed ({error}); check the URI and the AWS_* variables") from None
    log.info("%s: downloaded, sha256 %s", uri, digest(target)[:12])
    return target
