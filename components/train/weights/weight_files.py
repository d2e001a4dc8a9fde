"""Read weight files, and find the vision transformers in them. Pickled code is never run.

A file of a training loop seldom holds the weights of the backbone alone: they lie in a nested mapping (`state_dict`,
`model`, `teacher`), and their names have prefixes (`module.` of DDP, `_orig_mod.` of torch.compile, `teacher.backbone.`
of DINO, `model.` of Lightning). The name of the patch embedding shows where each set of weights begins.
"""

from __future__ import annotations

import logging
import mmap
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.common.errors import WeightsError, reason
from components.common.files import digest
from components.train.weights.weight_sources import S3, require_file

log = logging.getLogger(__name__)

ANCHOR = re.compile(r"(?P<prefix>(?:.*\.)?)patch_embed\.(?:proj|projection)\.weight")
"""Name of the patch embedding in timm, DINO, SAM and their relatives; each ViT has exactly one."""

RELEASED_PREFIX = "image_encoder."
"""Prefix that belongs to the released names of SAM; timm uses it to recognise them."""

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
"""Parts of a name that DDP, torch.compile, FSDP and activation checkpointing add, in any order."""

AVERAGED = frozenset({"teacher", "target_encoder", "ema", "model_ema", "ema_model", "state_dict_ema", "teacher_model"})
"""Names of the averaged one of two networks that were trained together."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Floating-point types that can be weights; types of 8 bits need a scale, which is stored elsewhere."""


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
    if not source.startswith(S3):
        return _from_file(Path(source), source)
    with tempfile.TemporaryDirectory() as folder:
        return _from_file(_download(source, Path(folder)), source)


def weight_sets(content: Mapping[str, Any]) -> list[WeightSet]:
    """All sets of weights in a file that may be a vision transformer, in the order of the file.

    Files without a patch embedding of a known name, such as those of CLIP, result in one set per mapping of tensors.
    """
    found = list(tables(content))
    anchored = [
        _below(path, table, match["prefix"])
        for path, table in found
        for name in table
        if (match := ANCHOR.fullmatch(name))
    ]
    return anchored or [_below(path, table, "") for path, table in found]


def unusable(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor whose values cannot be used, and why; None if there is none."""
    for name, tensor in tensors.items():
        if tensor.is_meta:
            return f"{name} has no values (device meta)"
        if tensor.layout is not torch.strided or tensor.is_quantized:
            return f"{name} is {'quantised' if tensor.is_quantized else 'sparse'}"
        if tensor.is_floating_point() and tensor.dtype not in FLOATS:
            return f"{name} has the type {plain(tensor.dtype)}"
    return None


def plain(dtype: torch.dtype) -> str:
    """Name of a dtype, for messages."""
    return str(dtype).removeprefix("torch.")


def tables(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping from names to tensors in nested mappings, with its first path; names without `WRAPPERS`."""
    waiting: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), content)]
    seen = set[int]()
    while waiting:
        path, mapping = waiting.pop()
        if id(mapping) in seen:  # also a mapping that contains itself
            continue
        seen.add(id(mapping))
        named = {key: value for key, value in mapping.items() if isinstance(key, str)}
        if tensors := {key: value for key, value in named.items() if isinstance(value, Tensor)}:
            yield path, _unwrapped(tensors)
        inner = [((*path, key), value) for key, value in named.items() if isinstance(value, Mapping)]
        waiting.extend(reversed(inner))


def _unwrapped(table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The table without what `WRAPPERS` matches; unchanged if two names would become equal."""
    unwrapped = {WRAPPERS.sub("", name): tensor for name, tensor in table.items()}
    return unwrapped if len(unwrapped) == len(table) else dict(table)


def _below(path: tuple[str, ...], table: Mapping[str, Tensor], prefix: str) -> WeightSet:
    parts = (*path, *prefix.split(".")[:-1])
    if prefix.endswith(RELEASED_PREFIX):
        prefix = prefix.removesuffix(RELEASED_PREFIX)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)}
    return WeightSet(".".join(parts), tensors, not AVERAGED.isdisjoint(parts))


def _from_file(path: Path, source: str) -> dict[str, Any]:
    require_file(path, "model.weights", source)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        require_small_objects(path, source, "set model.weights to another file")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{source}: {unreadable(error)}; set model.weights to another file") from None
    if not isinstance(loaded, dict):
        raise WeightsError(
            f"{source}: contains a {type(loaded).__name__}, expected a dict; set model.weights to another file"
        )
    return loaded


def require_small_objects(path: Path, source: str, remedy: str) -> None:
    """Check that a file of `torch.save` makes no bytearray, which torch would let it make of any size.

    The whole file is searched, because a crafted archive can show one reader other members than another. torch.save
    never compresses, and compressed members could hide what is searched.

    Args:
        path: the file.
        source: name of the file in messages.
        remedy: what to do, for messages.

    Raises:
        WeightsError: the file contains a bytearray, or a compressed pickle.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise WeightsError(f"{source}: contains a bytearray, which no network has; {remedy}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".pkl") and member.compress_type != zipfile.ZIP_STORED:
                    raise WeightsError(f"{source}: {member.filename} is compressed; {remedy}")


def unreadable(error: Exception) -> str:
    """Why torch or safetensors cannot read a file; what to do, if it contains code."""
    text = str(error)
    if "TorchScript" in text:
        return "a TorchScript program, which contains code, so it was not loaded; save the state_dict of the model"
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"a pickle with {found[1]}, which can run code, so it was not loaded; save a state_dict that contains only "
            "tensors"
        )
    why = "no pickle of torch.save" if isinstance(error, pickle.UnpicklingError) else reason(error)
    return f"damaged or not a plain weight file ({why})"


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
