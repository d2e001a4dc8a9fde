"""A zip member as a seekable file, so that a zip inside a zip is read without a copy on disk.

A stored member is read directly from the archive's file. A compressed member can only be decompressed from its start,
including everything between two reads. Its end, where a zip has its directory, is held in memory. Opening an inner zip
and reading its members in the order of their offsets therefore decompresses it twice, for any number of members.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import IO

TAIL = 1 << 20
"""Bytes held of a compressed member's end."""


def seekable(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> io.BufferedReader:
    """Open a member for random access."""
    stored = member.compress_type == zipfile.ZIP_STORED
    return io.BufferedReader(_Stored(archive, member) if stored else _Packed(archive, member), 1 << 16)


class _Member(io.RawIOBase):
    """Tracks the position; subclasses read in `_at`."""

    def __init__(self, size: int) -> None:
        self._size, self._position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._position))
        data = self._at(self._position, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _at(self, position: int, wanted: int) -> bytes:
        raise NotImplementedError


class _Stored(_Member):
    """A window into the archive's file."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        super().__init__(member.file_size)
        with archive.open(member):  # compares the member's header with the directory
            pass
        self._file: IO[bytes] = archive.fp  # type: ignore[assignment]
        self._file.seek(member.header_offset)
        name, extra = struct.unpack("<26x2H", self._file.read(30))
        self._start = member.header_offset + 30 + name + extra

    def _at(self, position: int, wanted: int) -> bytes:
        self._file.seek(self._start + position)
        return self._file.read(wanted)


class _Packed(_Member):
    """Decompresses forward; going back starts again from the beginning."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        super().__init__(member.file_size)
        self._stream = archive.open(member)
        self._tail_start, self._tail = max(0, member.file_size - TAIL), b""

    def _at(self, position: int, wanted: int) -> bytes:
        if position < self._tail_start:
            self._stream.seek(position)
            return self._stream.read(min(wanted, self._tail_start - position))
        if not self._tail:
            self._stream.seek(self._tail_start)
            self._tail = self._stream.read()
        start = position - self._tail_start
        return self._tail[start : start + wanted]
