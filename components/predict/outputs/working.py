"""Work in progress: the finished pixels of a map, and a journal that lets the same command continue after a crash.

The folder `.O.tif.part` next to the output holds one raw file per layer, in which every pixel has a fixed position, and
`journal.jsonl`: first the identity of the work, then a line per piece of finished work, added when its pixels are on
disk. Pixels without a line are computed again. Nothing is held in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.common.errors import ParamsError
from components.predict.config import Restart
from components.predict.outputs.map_facts import MapFacts
from components.predict.outputs.map_layers import LAYERS, Pixels
from components.predict.outputs.parts import Limits, Region

if TYPE_CHECKING:
    from components.predict.scores.blending import Band

JOURNAL = "journal.jsonl"

COMMIT_S = 5.0
"""Finished pixels are recorded in the journal at this interval: more often is slower, and a crash costs less."""

LOCK_S = 5.0
"""The lock of a killed command is free after a moment."""

READ_PX = 4_194_304
"""Pixels that are read back at once."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What is counted while a map is computed; adding up the counts of blocks or parts gives those of the map."""

    agreeing: int = 0  # pairs of windows that give a pixel the same class
    pairs: int = 0  # pairs of windows over a pixel
    sensors: tuple[int, int, int, int] = (0, 0, 0, 0)  # pixels by the value of the layer `sensors`

    @classmethod
    def of(cls, band: Band) -> Tally:
        """The counts of a band of finished rows."""
        none, image, dsm, both = np.bincount(band.sensors_hW.ravel(), minlength=4).tolist()
        return cls(band.agreeing, band.pairs, (none, image, dsm, both))

    @classmethod
    def parse(cls, content: Sequence[int]) -> Tally:
        """A tally from the numbers that `numbers` gave."""
        agreeing, pairs, none, image, dsm, both = (int(number) for number in content)
        return cls(agreeing, pairs, (none, image, dsm, both))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The counts as JSON content."""
        return self.agreeing, self.pairs, *self.sensors

    def __add__(self, other: Tally) -> Tally:
        return Tally.parse([one + more for one, more in zip(self.numbers, other.numbers, strict=True)])


class Working:
    """The folder of a map that is being computed."""

    def __init__(self, output: Path, facts: MapFacts, blocks: Sequence[Region], journal: int) -> None:
        """Set what is computed; use `open`."""
        self.output, self.folder, self.facts, self.here = output, folder_of(output), facts, facts.here
        self.counts = Tally()  # of the pixels that the journal records
        self.placed = False  # whether the map has its final name, so that the folder is not needed any more
        self._journal = journal
        self._next: dict[Limits, int] = {block.limits: block.rows.start for block in blocks}
        self._pending: tuple[Limits, int, Tally] | None = None
        self._committed_s = time.monotonic()
        self._files: dict[str, int] = {}

    @classmethod
    @contextmanager
    def open(
        cls,
        output: Path,
        facts: MapFacts,
        blocks: Sequence[Region],
        files: Sequence[Sequence[int]] = (),
        *,
        restart: Restart = "no",
    ) -> Iterator[Working]:
        """Open and lock the folder of an output; an error inside the `with` block keeps what is finished.

        Args:
            output: path of the class map.
            facts: of the map or of the part that is computed.
            blocks: rectangles that cover it, each filled from top to bottom.
            files: state of the input files; it must be the same to continue.
            restart: whether to discard earlier work.

        Raises:
            ParamsError: the folder holds other work, or another command works on this output.
        """
        with _locked(output) as journal:
            working = cls(output, facts, blocks, journal)
            try:
                working._begin(restart, files)
                try:
                    yield working
                except BaseException:
                    with suppress(OSError):  # the first error matters more
                        working.commit()
                    raise
                working.commit()
                if working.placed:
                    shutil.rmtree(working.folder)
            finally:
                for file in working._files.values():
                    os.close(file)

    @property
    def finished(self) -> bool:
        """Whether all blocks are finished."""
        return all(row == block[1] for block, row in self._next.items())

    def first_row(self, block: Region) -> int:
        """The first row of a block that is not finished; the end of its rows if all are."""
        return self._next[block.limits]

    def raw(self, layer: str) -> Path:
        """Raw file of a layer: its bands one after another, each `[h, w]`, uint8."""
        return self.folder / f"{layer}.raw"

    def write(self, block: Region, rows: slice, layers: Mapping[str, Pixels], counts: Tally) -> None:
        """Write the next rows of a block.

        Args:
            block: one of the blocks given to `open`.
            rows: rows of the raster, which follow on those written before.
            layers: pixels of all layers, each `[n, rows, columns of the block]`.
            counts: of these rows.
        """
        before = self._pending
        if before and before[0] != block.limits:
            self.commit()
            before = None
        start = before[1] if before else self.first_row(block)
        if rows.start != start or layers.keys() != self._files.keys():
            raise ValueError(f"expected rows from {start} with {list(self._files)}, not {rows} with {list(layers)}")
        for name, pixels in layers.items():
            self._put(name, rows.start - self.here.rows.start, block.columns.start - self.here.columns.start, pixels)
        self._pending = block.limits, rows.stop, (before[2] if before else Tally()) + counts
        if rows.stop == block.rows.stop or time.monotonic() - self._committed_s > COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Record what was written: first the pixels reach the disk, then the journal."""
        if self._pending is None:
            return
        for file in self._files.values():
            os.fsync(file)
        block, row, counts = self._pending
        self._append({"block": block, "until": row, "counts": counts.numbers})
        self._next[block], self.counts, self._pending = row, self.counts + counts, None
        self._committed_s = time.monotonic()

    def read(self, layer: str) -> Iterator[tuple[slice, Pixels]]:
        """Rows of the raster and their pixels `[h, w]`, of a layer with one band, in bands from top to bottom."""
        width_px, top = self.here.width_px, self.here.rows.start
        step = max(1, READ_PX // width_px)
        for start in range(0, self.here.height_px, step):
            height_px = min(step, self.here.height_px - start)
            pixels = np.fromfile(self.raw(layer), np.uint8, height_px * width_px, offset=start * width_px)
            yield slice(top + start, top + start + height_px), pixels.reshape(height_px, width_px)

    def _put(self, layer: str, row: int, column: int, pixels: Pixels) -> None:
        size, width_px = self.here.height_px * self.here.width_px, self.here.width_px
        for band, rows in enumerate(np.ascontiguousarray(pixels)):
            lines = rows.reshape(1, -1) if rows.shape[1] == width_px else rows
            for i, line in enumerate(lines):
                _write_fully(self._files[layer], line, band * size + (row + i) * width_px + column)

    def _begin(self, restart: Restart, files: Sequence[Sequence[int]]) -> None:
        """Continue the work in the folder, or start a new one."""
        blocks = [list(block) for block in self._next]
        content = self.facts.identity() | {"input files": files, "block_px": blocks}
        lines = [] if restart == "yes" else _lines(self._journal)
        if lines and (differing := _differing(lines[0].get("identity", {}), content)):
            if len(lines) > 1:  # otherwise nothing is finished
                self._require_discard(restart, differing)
            lines = []
        size = self.here.height_px * self.here.width_px
        sizes = {name: size * len(LAYERS[name].bands(self.facts.classes)) for name in self.facts.layers}
        known = all(self.raw(name).is_file() and self.raw(name).stat().st_size == n for name, n in sizes.items())
        if not lines or not known:
            os.ftruncate(self._journal, 0)
            for path in self.folder.iterdir():
                if path.name != JOURNAL:
                    path.unlink()
        for name, n in sizes.items():
            self._files[name] = os.open(self.raw(name), os.O_RDWR | os.O_CREAT, 0o666)
            os.ftruncate(self._files[name], n)
        if not lines or not known:
            self._append({"identity": content})
            return
        for line in lines[1:]:
            limits = (line["block"][0], line["block"][1], line["block"][2], line["block"][3])
            self._next[limits], self.counts = line["until"], self.counts + Tally.parse(line["counts"])

    def _require_discard(self, restart: Restart, differing: Sequence[str]) -> None:
        if restart == "no":
            raise ParamsError(
                f"{self.output}: {self.folder} holds unfinished work with other {', '.join(differing)}; use the same "
                "command as before to continue it, or discard it: add --restart, or delete this folder"
            )

    def _append(self, line: Mapping[str, Any]) -> None:
        _write_fully(self._journal, f"{json.dumps(line)}\n".encode(), None)
        os.fsync(self._journal)


def _differing(earlier: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    """Keys of an identity, which has been through JSON, that differ."""
    return [name for name, value in json.loads(json.dumps(content)).items() if earlier.get(name) != value]


def folder_of(output: Path) -> Path:
    """The folder of unfinished work on an output."""
    return output.with_name(f".{output.name}.part")


@contextmanager
def _locked(output: Path) -> Iterator[int]:
    """Lock the journal, which is created if needed; yields the open file."""
    until = time.monotonic() + LOCK_S
    while (journal := _try_lock(folder_of(output) / JOURNAL)) is None:
        if time.monotonic() > until:
            raise ParamsError(f"{output}: another command is writing this map; wait until it ends, or stop it")
        time.sleep(0.1)
    try:
        yield journal
    finally:
        os.close(journal)


def _try_lock(path: Path) -> int | None:
    """The locked file; None: another process holds the lock, or has just deleted the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except FileNotFoundError:
        return None
    try:
        with suppress(NotImplementedError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.fstat(file).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        same = False
    except OSError:
        same = True  # a file system without locks
    if not same:
        os.close(file)
    return file if same else None


def _lines(journal: int) -> list[dict[str, Any]]:
    """Lines of a journal. What a crash left at its end is removed."""
    text = bytearray()
    while chunk := os.pread(journal, 1 << 20, len(text)):
        text += chunk
    lines, end = [], 0
    with suppress(ValueError):
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            lines.append(json.loads(line))
            end += len(line)
    os.ftruncate(journal, end)
    return lines


def _write_fully(file: int, data: Any, offset: int | None) -> None:
    """Write bytes `[n]` at an offset, or at the end of a journal; a call may write only some of them."""
    view = memoryview(data)
    while view:
        written = os.write(file, view) if offset is None else os.pwrite(file, view, offset)
        view, offset = view[written:], None if offset is None else offset + written
