"""A file of the store, written in bands of rows: the same bytes as from `store.write_tile`, without the tile in memory.

Arrow writes the file's frame once, with empty layers. The offset of each layer in the file is then looked up, and bands
of rows are written there. They are written, not memory-mapped, so that a full disk is an error and not a crash.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.common.data.store import SCHEMA_FIELDS
from components.common.files import replacing

Layer = Literal["image", "dsm", "label", "eroded"]

FRAME_BYTES = 64 * 1024
"""A larger write of Arrow consists of pixels: it is left out of the frame, as a hole in the file."""


class TileFile:
    """A tile that is being written; rows may come in any order and can be read back."""

    def __init__(self, descriptor: int, offsets: dict[str, int], width_px: int, bands: int) -> None:
        """Wrap an open file whose layers start at `offsets`."""
        self._descriptor = descriptor
        self._offsets = offsets
        self._width_px = width_px
        self._row_bytes = {"image": width_px * bands, "dsm": width_px * 4, "label": width_px, "eroded": width_px}

    def write(self, layer: Layer, first_row: int, rows: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
        """Write rows of a layer, `[h, W]` or, of the image, `[h, W, C]`."""
        rest = memoryview(np.ascontiguousarray(rows).data).cast("B")
        offset = self._place(layer, first_row)
        while rest:  # the system may take a large write in parts
            done = os.pwrite(self._descriptor, rest, offset)
            os.posix_fadvise(self._descriptor, offset, done, os.POSIX_FADV_DONTNEED)  # starts writing it to the disk
            rest, offset = rest[done:], offset + done

    def labels(self, first_row: int, rows: int) -> npt.NDArray[np.uint8]:
        """Rows of the label that were written before, `[h, W]`."""
        read = os.pread(self._descriptor, rows * self._width_px, self._place("label", first_row))
        return np.frombuffer(read, np.uint8).reshape(rows, self._width_px)

    def _place(self, layer: Layer, row: int) -> int:
        return self._offsets[layer] + row * self._row_bytes[layer]


@contextmanager
def new_tile(path: Path, height_px: int, width_px: int, bands: int) -> Iterator[TileFile]:
    """A tile to fill. It gets its final name when the block succeeds, and is deleted if the block fails."""
    with replacing(path) as draft:
        _write_frame(draft, height_px, width_px, bands)
        offsets = _layer_offsets(draft)
        descriptor = os.open(draft, os.O_RDWR)
        try:
            yield TileFile(descriptor, offsets, width_px, bands)
        finally:
            os.close(descriptor)


class _Frame(io.FileIO):
    """A file that skips writes of pixels."""

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        if view.nbytes <= FRAME_BYTES:
            return super().write(view)
        self.seek(view.nbytes, os.SEEK_CUR)
        return view.nbytes


def _write_frame(path: Path, height_px: int, width_px: int, bands: int) -> None:
    size = height_px, width_px
    one = np.zeros(size, np.uint8)  # zeros take no memory until they are read
    layers = (np.zeros((*size, bands), np.uint8), np.zeros(size, np.float32), one, one)
    batch = pa.record_batch([pa.FixedShapeTensorArray.from_numpy_ndarray(a) for a in layers], names=SCHEMA_FIELDS)
    with _Frame(path, "w") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _layer_offsets(path: Path) -> dict[str, int]:
    """Where in the file each layer starts, bytes."""
    with pa.memory_map(str(path)) as mapped:
        start = mapped.read_buffer(mapped.size()).address
        mapped.seek(0)
        batch = pa.ipc.open_file(mapped).get_batch(0)
        return {name: batch.column(name).storage.flatten().buffers()[1].address - start for name in SCHEMA_FIELDS}
