"""The file of a checkpoint: safetensors with one JSON header, protected by a checksum, written atomically.

In: tensors in CPU memory and a header. Out: a file, and from it the same tensors and header. Pickles are never loaded.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.common.errors import WeightsError
from components.common.files import replacing


class DamagedError(WeightsError):
    """A checkpoint cannot be read, or its content does not match its checksum."""


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write contiguous CPU tensors and a header. Other threads run meanwhile: no call holds Python's lock for long.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
        ValueError: a number of the header is NaN or infinite, which JSON does not have.
    """
    text = json.dumps(header, allow_nan=False)
    metadata = {"header": text, "sha256": fingerprint(tensors, text)}
    with replacing(path) as draft:
        try:
            save_file(dict(tensors), draft, metadata)
        except SafetensorError as error:  # its text contains the error of the operating system
            if not (found := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file.

    Raises:
        DamagedError: the file cannot be read, or its content does not match its checksum.
        WeightsError: the file is a pickle.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
        if metadata["sha256"] != fingerprint(tensors, metadata["header"]):
            raise DamagedError(f"{path}: the content does not match the checksum")
        return tensors, json.loads(metadata["header"])
    except (SafetensorError, OSError, KeyError) as error:
        if _is_pickle(path):
            raise WeightsError(
                f"{path}: a pickle, which can run arbitrary code, so it was not loaded; find its origin and remove it"
            ) from None
        raise DamagedError(f"{path}: not a readable checkpoint ({error})") from None


def fingerprint(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Hexadecimal sha256 of the names and bytes of tensors, and of a text."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, plain or in the zip that `torch.save` writes. No code of the pickle is run."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with path.open("rb") as file:
            return len(list(itertools.islice(pickletools.genops(file), 3))) == 3
    except (OSError, ValueError):  # ValueError: no opcode
        return False
