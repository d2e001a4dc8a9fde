"""Read a checkpoint of the released code of MoBaNet as a network of this project. Nothing in the file is executed.

In: a file of `torch.save` with the `state_dict`, alone or inside the dictionary of a training loop, or the same tensors
as safetensors. Out: the network, and how its attention heads and taps were found.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from components.common.errors import WeightsError
from components.common.files import digest
from components.common.inference.modelfile import MOST_BLOCKS
from components.train.weights.weight_files import require_small_objects, tables, unreadable, unusable
from components.train.weights.weight_sources import require_file
from model import MoBaNet
from model.finite import first_non_finite
from model.reference import BACKBONE, PUBLISHED, backbone_size, from_reference

log = logging.getLogger(__name__)

MARK = f"{BACKBONE}cls_token"
"""A weight that every checkpoint of the released code has; what stands in front of it is a prefix of all names."""

CHECK = "check that it is a complete checkpoint of the released code"


@dataclass(frozen=True, slots=True)
class Released:
    """A network with the weights of a released checkpoint."""

    network: MoBaNet  # float32, on the CPU, in evaluation mode
    sha256: str  # of the file
    notes: tuple[str, ...]  # how heads and taps were found, one sentence each


def load_released(path: Path, heads: int | None = None, taps: tuple[int, ...] | None = None) -> Released:
    """Read a checkpoint of the released code.

    Args:
        path: the checkpoint.
        heads: number of attention heads of the backbone; None: that of the published backbone of its size.
        taps: the four tapped blocks, 0-based; None: those of the published backbone of its size.

    Raises:
        WeightsError: the file is missing, damaged, contains code or other objects than tensors and plain values, or is
            compressed; a tensor is missing, unexpected, not finite or of another shape or type; or heads or taps are
            needed or impossible.
    """
    require_file(path, "the argument CHECKPOINT")
    state = _tensors(path)
    try:
        size = backbone_size(state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; {CHECK}") from None
    if size[1] > MOST_BLOCKS:
        raise WeightsError(f"{path}: the backbone has {size[1]} blocks, expected at most {MOST_BLOCKS}; {CHECK}")
    heads, taps, notes = _heads_and_taps(path, size, heads, taps)
    try:
        network = from_reference(state, num_heads=heads, tap_indices=taps)
    except ValueError as error:
        raise WeightsError(f"{path}: {' '.join(str(error).split())}; {CHECK}") from None
    return Released(network.float().eval(), digest(path), notes)


def _heads_and_taps(
    path: Path, size: tuple[int, int], heads: int | None, taps: tuple[int, ...] | None
) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
    """Heads and taps, as given or of the published backbone with this width and number of blocks, with sentences."""
    width, depth = size
    known = PUBLISHED.get(size)
    missing = [option for option, value in (("--heads", heads), ("--taps", taps)) if value is None]
    if missing and known is None:
        raise WeightsError(
            f"{path}: the backbone has the width {width} and {depth} blocks, which no published DINOv2 has, so "
            f"{' and '.join(missing)} cannot be inferred; add {' and '.join(missing)}"
        )
    source = f"inferred: {known.name} has the width {width} and {depth} blocks" if known else ""
    found_heads = heads if heads is not None else known.num_heads if known else 0
    found_taps = taps if taps is not None else known.tap_indices if known else ()
    if found_heads < 1 or width % found_heads:
        raise WeightsError(f"{path}: --heads is {found_heads}; expected a divisor of the backbone's width, {width}")
    if len(found_taps) != 4 or list(found_taps) != sorted(set(found_taps)) or found_taps[0] < 0:
        raise WeightsError(f"{path}: --taps is {_listed(found_taps)}; expected four increasing block numbers")
    if found_taps[-1] >= depth:
        raise WeightsError(f"{path}: --taps is {_listed(found_taps)}; the backbone has the blocks 0 to {depth - 1}")
    notes = (
        f"{found_heads} attention heads ({'given' if heads is not None else source})",
        f"taps {_listed(found_taps)} ({'given' if taps is not None else source})",
    )
    return found_heads, found_taps, notes


def _listed(taps: tuple[int, ...]) -> str:
    return ",".join(map(str, taps))


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the network under their released names: dense, finite, float32 or whole numbers."""
    tensors = _choose(path, _content(path))
    if odd := unusable(tensors):
        raise WeightsError(f"{path}: {odd}; save it as a dense float32 tensor")
    size, limit = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if size > limit:  # views that repeat a few stored values
        raise WeightsError(
            f"{path}: declares {size:,} bytes of weights, but the file has {limit:,}; save contiguous tensors"
        )
    for name, tensor in tensors.items():
        counts = name.endswith(".num_batches_tracked")
        if tensor.is_complex() or counts == tensor.is_floating_point():
            kind = "a whole number" if counts else "floating-point numbers"
            raise WeightsError(f"{path}: {name} has the type {str(tensor.dtype)[6:]}, expected {kind}; {CHECK}")
    converted = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if bad := first_non_finite(converted):
        raise WeightsError(f"{path}: {bad} contains NaN or infinite values; use another checkpoint")
    return converted


def _choose(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The one table of tensors that is a network of the released code, without a prefix that all its names share."""
    found: dict[str, dict[str, Tensor]] = {}
    for place, table in tables(content):
        for name in table:
            if name.endswith(MARK):
                prefix = name.removesuffix(MARK)
                names = [part for part in (*place, *prefix.split(".")) if part]
                cut = {key.removeprefix(prefix): tensor for key, tensor in table.items()}
                found[".".join(names)] = cut if len(cut) == len(table) else table
    if not found:
        raise WeightsError(f"{path}: lacks {MARK}; {CHECK}")
    if len(found) > 1:
        places = ", ".join(place or "the top level" for place in found)
        raise WeightsError(
            f"{path}: contains {len(found)} networks ({places}); save the state_dict of one to a file of its own"
        )
    chosen, weights = next(iter(found.items()))
    if chosen:
        log.info("%s: uses %s", path, chosen)
    return weights


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        _require_stored(path)
        loaded = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle raises errors of any type
        raise WeightsError(f"{path}: {unreadable(error)}; use another checkpoint") from None
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path}: contains a {type(loaded).__name__}, expected a dict; save the state_dict")
    return loaded


def _require_stored(path: Path) -> None:
    """Check that the archive unpacks to no more than its own size, and that it has every name once.

    Raises:
        WeightsError: it is no such archive.
    """
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path}: no complete file of torch.save; use another copy, or, if a release before PyTorch 1.6 wrote it, "
            "load it there and save its state_dict with a newer one"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            what = f"{packed[0]} is compressed" if packed else "it declares more bytes than it has"
            raise WeightsError(f"{path}: not an archive of torch.save ({what}); use another checkpoint")
    require_small_objects(path, str(path), "save the state_dict alone")
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise WeightsError(f"{path}: not an archive of torch.save (a name occurs twice); use another checkpoint")
