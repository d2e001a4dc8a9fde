"""Files of a folder or a .zip, zips inside either included, one at a time and safely.

An archive is somebody else's: a member whose path leaves its folder, an encrypted member, and one that grows absurdly
when unpacked are refused. A zip inside a zip is written to disk, read, and removed before the next one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from components.common.errors import DataError

MAX_RATIO = 1000
"""Unpacked over packed size. Deflate reaches 1032 on zeros alone; a label picture stays far below."""

MAX_DEPTH = 3
"""Zips inside zips; the benchmark has two."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that the walk came across, valid until the walk goes on."""

    name: str  # with folders and archives above it, joined by /
    save: Callable[[Path], None]  # writes the content to a path


def walk(source: Path, scratch: Path) -> Iterator[Found]:
    """All files below a folder or in a .zip, in the order of their names.

    Args:
        source: a folder or a .zip.
        scratch: folder for zips found inside zips.

    Raises:
        DataError: there is nothing at `source`, or an archive is damaged or not to be trusted.
    """
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source).as_posix()
            if path.suffix.lower() == ".zip":
                yield from _walk_zip(path, name, scratch, 1)
            else:
                yield Found(name, partial(link_or_copy, path))
    elif source.suffix.lower() == ".zip" and source.is_file():
        yield from _walk_zip(source, source.name, scratch, 1)
    else:
        raise DataError(f"{source}: no such folder or .zip; set data.path to where the ISPRS files are")


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _walk_zip(path: Path, name: str, scratch: Path, depth: int) -> Iterator[Found]:
    if depth > MAX_DEPTH:
        raise DataError(f"{name}: archives are nested more than {MAX_DEPTH} deep; unpack it yourself and set data.path")
    with _one_sentence(name):
        archive = zipfile.ZipFile(path)
    with archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            _check(name, member)
            inner = f"{name}/{member.filename}"
            if member.is_dir():
                continue
            if member.filename.lower().endswith(".zip"):
                with tempfile.TemporaryDirectory(dir=scratch) as room:
                    unpacked = Path(room) / "inner.zip"
                    _save(archive, member, inner, unpacked)
                    yield from _walk_zip(unpacked, inner, scratch, depth + 1)
            else:
                yield Found(inner, partial(_save, archive, member, inner))


def _check(archive: str, member: zipfile.ZipInfo) -> None:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if ".." in parts or member.filename.startswith(("/", "\\")) or ":" in (parts[0] if parts else ""):
        raise DataError(f"{archive}: its member {member.filename!r} would be written outside; do not use this archive")
    if member.flag_bits & 1:
        raise DataError(f"{archive}: its member {member.filename!r} is encrypted; unpack it yourself and set data.path")
    if member.file_size > MAX_RATIO * max(member.compress_size, 1):
        raise DataError(
            f"{archive}: its member {member.filename!r} grows from {member.compress_size} to {member.file_size} "
            f"bytes, more than {MAX_RATIO} times; do not use this archive"
        )


def _save(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, target: Path) -> None:
    with _one_sentence(name), archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{name}: not a readable zip ({error}); download it again") from None
    except NotImplementedError as error:
        raise DataError(f"{name}: packed in a way that is not supported ({error}); unpack it yourself") from None
