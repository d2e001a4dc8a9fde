"""What was brought to a folder and from where, a line each: an interrupted import goes on, a second one has no work.

The first line says which data set it is. A line that a power failure cut is skipped: its file is looked at again.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
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
    """One file that came, and what became of it."""

    place: str  # path below the folder
    origin: str  # its name in the source
    stamp: str  # of its content there
    offer: str  # georeference that was there for it
    left: bool  # True: another file was better, or it cannot be read
    measured_px: int = 0
    placed: bool = False
    size: int = 0  # bytes, of the file at the place
    changed_ns: int = 0
    sha256: str = ""

    @property
    def key(self) -> Key:
        """The same key, the same file in the same company: it need not be looked at again."""
        return self.origin, self.stamp, self.offer

    @property
    def look(self) -> Look:
        """What the file at the place is worth."""
        return Look(self.measured_px, self.placed, float("nan"))


class Journal:
    """The journal of a folder, held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; entering the block opens its journal.

        Args:
            folder: made if it does not exist.
        """
        self.folder = folder
        self.identity: dict[str, str] | None = None
        self.taken: dict[str, Entry] = {}  # place -> what lies there
        self.left: dict[Key, str] = {}  # what was not taken, or taken once -> place

    def __enter__(self) -> Journal:
        """Read the journal and keep others out.

        Raises:
            DataError: another process writes into the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / JOURNAL).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{self.folder}: another import is writing there; wait until it has ended") from None
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
        """Let others in."""
        self._file.close()

    def begin(self, identity: dict[str, str]) -> None:
        """Forget all entries, and say what the folder holds from now on."""
        self._file.truncate(0)
        self.taken.clear()
        self.left.clear()
        self.identity = identity
        self._write({"identity": identity})

    def add(self, entry: Entry) -> None:
        """Remember a file that was taken or left, also after a power failure."""
        self._keep(entry)
        self._write(asdict(entry))

    def holds(self, place: str) -> Entry | None:
        """The entry of the file at a place, if it is still the one that was brought there."""
        entry, path = self.taken.get(place), self.folder / place
        if entry is None or not path.is_file() or path.stat().st_size != entry.size:
            return None
        return entry if path.stat().st_mtime_ns == entry.changed_ns or digest(path) == entry.sha256 else None

    def _read(self, line: dict[str, Any]) -> None:
        if "identity" in line:
            self.identity = dict(line["identity"])
        else:
            self._keep(Entry(**line))

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
