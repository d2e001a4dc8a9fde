"""Atomic files and folders: written under a temporary name, then renamed over the target. Also file checksums."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UMASK = os.umask(0)
"""Permissions that new files lack. Read once, because reading it changes it for a moment, also for other threads."""
os.umask(UMASK)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Path of a draft file. It replaces the target if the block succeeds; it is deleted if the block fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.chmod(0o666 & ~UMASK)  # some writers create files that only their owner can read
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Empty draft folder. It replaces the target if the block succeeds; it is deleted if the block fails.

    The leftovers of a killed run are cleaned up first. Two runs must not write the same target at the same time.
    """
    draft = _draft(target)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with resuming_folder(target):
            yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def resuming_folder(target: Path) -> Iterator[Path]:
    """Draft folder. It replaces the target if the block succeeds; it stays for the next attempt if the block fails.

    It can contain files of an earlier attempt. The block must find out which of them are complete and still needed,
    and remove the others. Two runs must not write the same target at the same time.
    """
    draft, old = begun_folder(target), target.with_name(f".{target.name}.old")
    _finish_swap(target, old)
    try:
        yield draft
        if target.exists():
            target.rename(old)
        draft.rename(target)
    finally:
        _finish_swap(target, old)


def begun_folder(target: Path) -> Path:
    """The draft folder that `resuming_folder` uses, for callers that put files into it beforehand."""
    draft = _draft(target)
    draft.mkdir(parents=True, exist_ok=True)
    return draft


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _finish_swap(target: Path, old: Path) -> None:
    """Restore the earlier folder if a swap was interrupted, and delete what a swap left behind."""
    if old.exists() and not target.exists():  # stopped between the two renames
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_json(target: Path, content: Any) -> None:
    """Write JSON atomically, indented, keys in the order given.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have; see `without_nan`.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(target) as draft:
        draft.write_text(text + "\n")


def without_nan(content: Any) -> Any:
    """JSON content with None for every NaN and infinite number."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def with_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Figures of a JSON file, with NaN for None."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def external_weights(model: Path) -> Path:
    """The second file of an ONNX graph above 2 GB, next to it; it need not exist."""
    return model.with_name(f"{model.name}.data")


def with_weights(model: Path) -> tuple[Path, ...]:
    """The files of a model file: itself, and the one with its weights if there is one."""
    weights = external_weights(model)
    return (model, weights) if weights.is_file() else (model,)


def tuples(content: Any) -> Any:
    """Content of a JSON file with tuples for its lists, as frozen dataclasses have them."""
    if isinstance(content, dict):
        return {key: tuples(value) for key, value in content.items()}
    return tuple(tuples(item) for item in content) if isinstance(content, list) else content
