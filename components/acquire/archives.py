"""Lists the files of folders and .zips, including zips inside either, and reads them one at a time and safely.

Archives are untrusted input. Members whose path leaves the folder, links, encrypted members, decompression bombs,
overlapping members and deep nesting are refused before anything is read. A damaged archive is listed as a problem, and
the others are read.
"""

from __future__ import annotations

import logging
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from components.acquire.members import seekable
from components.common.errors import DataError

log = logging.getLogger(__name__)

MAX_RATIO = 1000
"""Limit of unpacked to packed size. Deflate reaches 1032 on zeros; a label image stays far below."""

MAX_ZIP_RATIO = 100
"""The same limit for a zip inside a zip, which is compressed already."""

MAX_DEPTH = 3
"""Levels of zips inside zips; the benchmark has two."""

MAX_DIRECTORY = 1 << 25
"""Bytes of an archive's central directory: about 300,000 members."""

UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError, OverflowError, OSError,
    NotImplementedError,
)  # fmt: skip
"""What damaged content of an archive raises, depending on the compression."""


class Damaged(DataError):
    """One file or archive cannot be read; the others can."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source; readable as long as its listing is open."""

    name: str  # with the source and the folders and archives above it, joined by /
    size: int  # bytes
    stamp: str  # changes with the content
    path: Path | None  # None: inside an archive
    open: Callable[[], IO[bytes]]


@dataclass(slots=True)
class Listing:
    """Content of the sources, in the order in which archives are read forward."""

    files: list[Found] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # sentences about what could not be listed


@contextmanager
def listed(sources: Sequence[Path], skip: Path) -> Iterator[Listing]:
    """List all files of folders and .zips; archives stay open until the context ends.

    Args:
        sources: folders and .zips. Links in a folder are followed, each folder once.
        skip: the target folder, which is left out if it lies inside a source.

    Raises:
        DataError: a source does not exist, or an archive is unsafe.
    """
    listing = Listing()
    with ExitStack() as archives:
        for source in sources:
            if source.is_dir():
                for path in files_below(source, skip):
                    name = f"{source.absolute().name}/{path.relative_to(source).as_posix()}"
                    _list_file(path, name, listing, archives)
            elif source.suffix.lower() == ".zip" and source.is_file():
                _list_file(source, source.name, listing, archives)
            else:
                raise DataError(f"{source}: no such folder or .zip; set it to the place of the downloaded files")
        yield listing


def on_disk(path: Path, name: str) -> Found:
    """A file in a folder; `name` is for messages and the journal."""
    status = path.stat()
    return Found(_printable(name), status.st_size, f"changed {status.st_mtime_ns}", path, partial(_opened, path))


def content(found: Found) -> Iterator[bytes]:
    """Content of a file in chunks.

    Raises:
        Damaged: the file cannot be read, or its size differs from the listed one.
    """
    size = 0
    with one_sentence(found.name), found.open() as source:
        while piece := source.read(1 << 20):
            size += len(piece)
            yield piece
        if size != found.size:
            raise ValueError(f"{size} bytes instead of {found.size}")


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn the errors of damaged content into `Damaged`."""
    try:
        yield
    except UNREADABLE as error:
        raise Damaged(f"{name}: cannot be read ({str(error) or type(error).__name__}); download it again") from None


def files_below(folder: Path, skip: Path) -> Iterator[Path]:
    """All files below a folder, sorted by name; links are followed, each folder is visited once.

    Unreadable folders are skipped with a warning.

    Args:
        folder: where to search.
        skip: a folder to leave out.

    Raises:
        DataError: both are the same folder.
    """
    seen = {_identity(skip)} if skip.is_dir() else set()
    if _identity(folder) in seen:
        raise DataError(f"{folder}: is the folder to write to; choose another source or target")
    for above, folders, names in os.walk(folder, followlinks=True, onerror=_say_unreadable):
        fresh = []
        for name in sorted(folders):
            identity = _identity(Path(above, name))
            if identity not in seen:
                seen.add(identity)
                fresh.append(name)
        folders[:] = fresh
        yield from (path for name in sorted(names) if (path := Path(above, name)).is_file())


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _say_unreadable(error: OSError) -> None:
    log.warning("left out: %s: cannot be read (%s)", error.filename, error.strerror)


def _list_file(path: Path, name: str, listing: Listing, archives: ExitStack) -> None:
    if path.suffix.lower() == ".zip":
        _list_zip(partial(_opened, path), name, listing, archives, 1)
    else:
        listing.files.append(on_disk(path, name))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _list_zip(opened: Callable[[], IO[bytes]], name: str, listing: Listing, archives: ExitStack, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DataError(f"{name}: archives are nested more than {MAX_DEPTH} deep; unpack it yourself")
    try:
        with one_sentence(name):
            file = archives.enter_context(opened())
            _check_directory(name, file)
            archive = archives.enter_context(zipfile.ZipFile(file))
    except Damaged as error:
        listing.problems.append(str(error))
        return
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    _check_members(name, members, archive.start_dir)
    for member in members:
        inner = _printable(f"{name}/{member.filename}".replace("\\", "/"))
        if member.is_dir():
            continue
        if inner.lower().endswith(".zip"):
            _list_zip(partial(seekable, archive, member), inner, listing, archives, depth + 1)
        else:
            stamp = f"crc {member.CRC:08x}"
            listing.files.append(Found(inner, member.file_size, stamp, None, partial(archive.open, member)))


def _check_directory(name: str, file: IO[bytes]) -> None:
    """Refuse a central directory that would fill the memory: zipfile reads all of it."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 16) - 100))
    end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("it is not a zip, or its end is missing")
    size = struct.unpack_from("<L", end, at + 12)[0]
    if (large := end.rfind(b"PK\x06\x06", 0, at)) >= 0:  # the record of an archive above 4 GB takes precedence
        size = struct.unpack_from("<Q", end, large + 40)[0]
    if size > MAX_DIRECTORY:
        raise DataError(f"{name}: its list of members has {size} bytes, which is unsafe; do not use this archive")
    file.seek(0)


def _check_members(archive: str, members: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse an archive with an unsafe member; members are sorted by offset."""
    starts = [*(member.header_offset for member in members), end]
    for member, next_start in zip(members, starts[1:], strict=True):
        if fault := _fault(member) or _overlap(member, next_start):
            raise DataError(f"{archive}: its member {member.filename!r} {fault}")


def _fault(member: zipfile.ZipInfo) -> str | None:
    name = member.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/") or ":" in (parts[0] if parts else ""):
        return "would be written outside the folder; do not use this archive"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; do not use this archive"
    if member.flag_bits & 1:
        return "is encrypted; unpack it yourself and import the folder"
    limit = MAX_ZIP_RATIO if name.lower().endswith(".zip") else MAX_RATIO
    if member.file_size > limit * max(member.compress_size, 1):
        grows = f"grows from {member.compress_size} to {member.file_size} bytes"
        return f"{grows}, more than {limit} times; do not use this archive"
    return None


def _overlap(member: zipfile.ZipInfo, next_start: int) -> str | None:
    header = 30 + len(member.orig_filename)  # its minimum length
    if member.header_offset + header + member.compress_size > next_start:
        return "overlaps another one; do not use this archive"
    return None


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)
