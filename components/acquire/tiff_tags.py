"""Tags added to a TIFF, and nothing else in it changed: its first directory is written anew at the end of the file.

libtiff can change tags too, but crashes on some damaged files; here a file that makes no sense is an error.
Letters of the format: a directory is a list of entries (tag, type, count, value or offset of the values).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SHORT, DOUBLE = 3, 12
CODES = {SHORT: "H", DOUBLE: "d"}

MAX_ENTRIES = 1000
"""Of a directory; files have 10 to 30."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How a file writes its numbers: in which order, and whether with the offsets of files above 4 GB."""

    order: str  # < or >
    big: bool

    @property
    def entry(self) -> str:
        return f"{self.order}HHQ8s" if self.big else f"{self.order}HHL4s"

    @property
    def count(self) -> str:
        return f"{self.order}Q" if self.big else f"{self.order}H"

    @property
    def offset(self) -> str:
        return f"{self.order}Q" if self.big else f"{self.order}L"


def read_shorts(path: Path, tag: int) -> tuple[int, ...]:
    """Values of a tag of type SHORT in the first directory; none if the file has no such tag.

    Raises:
        ValueError: the file is no TIFF, or its directory makes no sense.
    """
    with path.open("rb") as file:
        layout, _, entries, _ = _directory(file)
        kind, count, value = entries.get(tag, (SHORT, 0, b""))
        if kind != SHORT or count * 2 > MAX_ENTRIES:
            raise ValueError(f"tag {tag} is no short list of numbers")
        if count * 2 > len(value):
            file.seek(_number(layout.offset, value))
            value = file.read(count * 2)
        return struct.unpack_from(f"{layout.order}{count}H", value)


def add_tags(path: Path, tags: Mapping[int, tuple[int, Sequence[float]]], without: Collection[int] = ()) -> None:
    """Write tags into the first directory of a TIFF.

    Args:
        path: the file, changed in place.
        tags: tag -> type (SHORT or DOUBLE) and values; replaces a tag that is there.
        without: tags to remove.

    Raises:
        ValueError: the file is no TIFF, or its directory makes no sense.
    """
    with path.open("r+b") as file:
        layout, pointer, entries, following = _directory(file)
        end = file.seek(0, 2)
        content = bytearray(end % 2)  # values and directories lie at even offsets
        kept = {tag: entry for tag, entry in entries.items() if tag not in without}
        for tag, (kind, values) in tags.items():
            packed = struct.pack(f"{layout.order}{len(values)}{CODES[kind]}", *values)
            room = struct.calcsize(layout.offset)
            place = struct.pack(layout.offset, end + len(content)) if len(packed) > room else packed.ljust(room, b"\0")
            content += packed + bytes(len(packed) % 2) if len(packed) > room else b""
            kept[tag] = (kind, len(values), place)
        start = end + len(content)
        content += struct.pack(layout.count, len(kept))
        for tag in sorted(kept):
            content += struct.pack(layout.entry, tag, *kept[tag])
        content += following
        if not layout.big and end + len(content) >= 1 << 32:
            raise ValueError("no room below 4 GB")
        file.write(content)
        file.seek(pointer)
        file.write(struct.pack(layout.offset, start))


def _directory(file: BinaryIO) -> tuple[_Format, int, dict[int, tuple[int, int, bytes]], bytes]:
    """Format, place of the pointer to the first directory, its entries by tag, and the pointer to the next one."""
    try:
        magic = file.read(4)
        order = {b"II": "<", b"MM": ">"}[magic[:2]]
        layout = _Format(order, {42: False, 43: True}[struct.unpack(f"{order}H", magic[2:])[0]])
        pointer = 8 if layout.big else 4
        file.seek(pointer)
        file.seek(_number(layout.offset, file.read(struct.calcsize(layout.offset))))
        count = _number(layout.count, file.read(struct.calcsize(layout.count)))
        if not 0 < count <= MAX_ENTRIES:
            raise ValueError(f"a directory of {count} entries")
        size = struct.calcsize(layout.entry)
        found = [struct.unpack(layout.entry, file.read(size)) for _ in range(count)]
        following = file.read(struct.calcsize(layout.offset))
        _number(layout.offset, following)
    except (KeyError, struct.error, OverflowError) as error:
        raise ValueError(f"its directory makes no sense ({error})") from None
    return layout, pointer, {tag: (kind, number, value) for tag, kind, number, value in found}, following


def _number(code: str, content: bytes) -> int:
    return int(struct.unpack(code, content)[0])
