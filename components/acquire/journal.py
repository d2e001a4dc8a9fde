"""Journal of an import: one line per file that was brought, with its origin.

With it an interrupted import resumes, and a repeated one has nothing to do. The first line names the data set. A line
that a power failure truncated is skipped, and its file is read again.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from components.acquire.look import Look
from components.common.errors import DataError
from components.common.files import digest

JOURNAL = ".acquired.jsonl"

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a source: brought, or left out."""

    place: str  # path below the folder
    origin: str  # name in the source
    stamp: str  # changes with the content in the source
    offer: str  # its sidecar files in the source, with their stamps
    left: bool  # True: left out, because another file was better
    measured_px: int = 0
    placed: bool = False
    size: int = 0  # bytes, of the file at the place
    changed_ns: int = 0
    sha256: str = ""
    sidecars: tuple[str, ...] = ()  # places of its sidecar files

    @property
    def key(self) -> Key:
        """Equal keys mean the same file with the same sidecars, which need not be read again."""
        return self.origin, self.stamp, self.offer

    @property
    def look(self) -> Look:
        """Rank of the file at the place."""
        return Look(self.measured_px, self.placed, float("nan"))


class Journal:
    """The journal of a folder, open in one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Set the folder; entering the context opens its journal.

        Args:
            folder: created if it does not exist.
        """
        self.folder = folder
        self.identity: dict[str, str] | None = None
        self.taken: dict[str, Entry] = {}  # place -> the file there
        self.left: dict[Key, str] = {}  # files that were left out or replaced -> place

    def __enter__(self) -> Journal:
        """Read the journal and lock the folder.

        Raises:
            DataError: another process writes into the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / JOURNAL).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{self.folder}: another import is writing to it; wait until it ends") from None
        except OSError:
            pass  # a file system without locks
        self._file.seek(0)
        text = self._file.read()
        for line in text.splitlines():
            with suppress(ValueError, TypeError):
                self._read(json.loads(line))
        if text and not text.endswith("\n"):
            self._file.write("\n")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Unlock the folder."""
        self._file.close()

    def begin(self, identity: dict[str, str]) -> None:
        """Delete all entries and record what the folder will hold."""
        self._file.truncate(0)
        self.taken.clear()
        self.left.clear()
        self.identity = identity
        self._write({"identity": identity})

    def add(self, entry: Entry) -> None:
        """Record a file durably, so that the entry survives a power failure."""
        self._keep(entry)
        self._write(asdict(entry))

    def holds(self, place: str) -> Entry | None:
        """The entry of the file at a place, if the file and its sidecars are unchanged since they were brought."""
        entry, path = self.taken.get(place), self.folder / place
        if entry is None or not path.is_file() or path.stat().st_size != entry.size:
            return None
        if path.stat().st_mtime_ns != entry.changed_ns and digest(path) != entry.sha256:
            return None
        return entry if all(self.holds(sidecar) for sidecar in entry.sidecars) else None

    def _read(self, line: dict[str, Any]) -> None:
        if "identity" in line:
            self.identity = dict(line["identity"])
        else:
            entry = Entry(**line)
            self._keep(replace(entry, sidecars=tuple(entry.sidecars)))

    def _keep(self, entry: Entry) -> None:
        if entry.left:
            self.left[entry.key] = entry.place
            return
        if earlier := self.taken.get(entry.place):
            self.left[earlier.key] = entry.place
        self.taken[entry.place] = entry
        self.left.pop(entry.key, None)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
