"""Read weight files, and find the vision transformers in them. Pickled code is never run.

A file of a training loop seldom holds the weights of the backbone alone: they lie in a nested mapping (`state_dict`,
`model`, `teacher`), and their names have prefixes (`module.` of DDP, `_orig_mod.` of torch.compile, `teacher.backbone.`
of DINO, `model.` of Lightning). The name of the patch embedding shows where each set of weights begins.
"""

from __future__ import annotations

import logging
import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.common.errors import WeightsError
from components.common.files import digest

log = logging.getLogger(__name__)

ANCHOR = re.compile(r"(?P<prefix>(?:.*\.)?)patch_embed\.(?:proj|projection)\.weight")
"""Name of the patch embedding in timm, DINO, SAM and their relatives; each ViT has exactly one."""

RELEASED_PREFIX = "image_encoder."
"""Prefix that belongs to the released names of SAM; timm uses it to recognise them."""

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
"""Parts of a name that DDP, torch.compile, FSDP and activation checkpointing add, in any order."""

AVERAGED = frozenset({"teacher", "target_encoder", "ema", "model_ema", "ema_model", "state_dict_ema", "teacher_model"})
"""Names of the averaged one of two networks that were trained together."""


@dataclass(frozen=True, slots=True)
class WeightSet:
    """Weights that may be those of a backbone."""

    place: str  # names of nested mappings and prefixes, for example `teacher.backbone`; empty: the file itself
    tensors: dict[str, Tensor]  # without the prefix
    averaged: bool  # part of an averaged network: a teacher or an exponential moving average


def read(source: str) -> dict[str, Any]:
    """Content of a weight file.

    Args:
        source: path of a .safetensors file or of a file of `torch.save`, or `s3://bucket/key`.

    Raises:
        WeightsError: the file does not exist, is damaged, or contains other objects than plain values and tensors.
    """
    if not source.startswith("s3://"):
        return _from_file(Path(source), source)
    with tempfile.TemporaryDirectory() as folder:
        return _from_file(_download(source, Path(folder)), source)


def weight_sets(content: Mapping[str, Any]) -> list[WeightSet]:
    """All sets of weights in a file that may be a vision transformer, in the order of the file.

    Files without a patch embedding of a known name, such as those of CLIP, result in one set per mapping of tensors.
    """
    tables = [(path, _unwrapped(table)) for path, table in _tables(content, ())]
    anchored = [
        _below(path, table, match["prefix"])
        for path, table in tables
        for name in table
        if (match := ANCHOR.fullmatch(name))
    ]
    return anchored or [_below(path, table, "") for path, table in tables]


def _tables(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping from names to tensors in nested mappings, with its path."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    if tensors := {key: value for key, value in named.items() if isinstance(value, Tensor)}:
        yield path, tensors
    for key, value in named.items():
        if isinstance(value, Mapping):
            yield from _tables(value, (*path, key))


def _unwrapped(table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The table without what `WRAPPERS` matches; unchanged if two names would become equal."""
    plain = {WRAPPERS.sub("", name): tensor for name, tensor in table.items()}
    return plain if len(plain) == len(table) else dict(table)


def _below(path: tuple[str, ...], table: Mapping[str, Tensor], prefix: str) -> WeightSet:
    parts = (*path, *prefix.split(".")[:-1])
    if prefix.endswith(RELEASED_PREFIX):
        prefix = prefix.removesuffix(RELEASED_PREFIX)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)}
    return WeightSet(".".join(parts), tensors, not AVERAGED.isdisjoint(parts))


def _from_file(path: Path, source: str) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
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
