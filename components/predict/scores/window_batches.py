"""Inputs of a rectangle of a raster, cut into windows and grouped into batches of fixed size.

In: the rectangle. Out: batches in row-major order; a window always has the same slot, and a slot without a window is 0.
Letters: B batch, C image bands, H W pixels of a window, h W rows and columns of a band.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from components.predict.inputs.scene_inputs import Inputs, Patch
from components.predict.scores.lattice import Lattice, Window, intersection, within


class RowEnd:
    """After the last window of a row of the lattice: the rows of the rectangle that are finished then."""

    def __init__(self, i: int, rows: slice, sensors_hW: npt.NDArray[np.uint8]) -> None:
        """State the row of the lattice, rows of the raster, and sensors in them: 0 no class, 1 image, 2 DSM, 3 both."""
        self.i, self.rows, self.sensors_hW = i, rows, sensors_hW


class Batch:
    """Inputs of one forward pass, on the host."""

    def __init__(self, lattice: Lattice, bands: int, pinned: bool) -> None:
        """Allocate a batch.

        Args:
            lattice: the windows.
            bands: bands of the image.
            pinned: whether the memory can be copied to a GPU in the background.
        """
        size, side = lattice.batch_size, lattice.window_px
        self._lattice = lattice
        self._image_BHWC = torch.empty((size, side, side, bands), dtype=torch.uint8, pin_memory=pinned)
        self._dsm_B1HW = torch.empty((size, 1, side, side), dtype=torch.float32, pin_memory=pinned)
        self._sensors_B1HW = torch.empty((size, 1, side, side), dtype=torch.uint8, pin_memory=pinned)
        self.events: list[Window | RowEnd] = []  # in the order in which they are blended
        self.slots: set[int] = set()

    @property
    def is_full(self) -> bool:
        """Whether every slot has a window."""
        return len(self.slots) == self._lattice.batch_size

    def has_room(self, window: Window) -> bool:
        """Whether the slot of a window is free."""
        return self._lattice.slot(window) not in self.slots

    def put(self, window: Window, patch: Patch, columns: slice) -> None:
        """Add a window: these columns of a patch with as many rows as the window."""
        slot = self._lattice.slot(window)
        self._image_BHWC.numpy()[slot] = patch.image_HWC[:, columns]
        self._dsm_B1HW.numpy()[slot] = patch.dsm_HW[:, columns]
        self._sensors_B1HW.numpy()[slot] = patch.sensors_HW[:, columns]
        self.slots.add(slot)
        self.events.append(window)

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Image uint8 `[B, H, W, C]`, DSM float32 and sensors uint8 `[B, 1, H, W]`; nothing if there is no window."""
        if not self.slots:
            return ()
        tensors = (self._image_BHWC, self._dsm_B1HW, self._sensors_B1HW)
        for slot in set(range(self._lattice.batch_size)) - self.slots:
            for tensor in tensors:
                tensor.numpy()[slot] = 0
        return tensors


def window_batches(inputs: Inputs, lattice: Lattice, rows: slice, columns: slice, *, pinned: bool) -> Iterator[Batch]:
    """Yield all windows that touch a rectangle and have a pixel in it that gets a class.

    Args:
        inputs: the raster.
        lattice: its windows.
        rows: rows of the rectangle.
        columns: columns of the rectangle.
        pinned: whether the batches can be copied to a GPU in the background.
    """
    indices, window_columns = lattice.window_rows(rows), lattice.window_columns(columns)
    span = slice(lattice.pixels(window_columns[0]).start, lattice.pixels(window_columns[-1]).stop)
    batch: Batch | None = None
    for i in indices:
        patch = inputs.read(lattice.pixels(i), span)
        batch = batch or Batch(lattice, patch.image_HWC.shape[-1], pinned)
        inside = within(intersection(lattice.pixels(i), rows), lattice.pixels(i))
        found = False
        for j in window_columns:
            wanted = within(intersection(lattice.pixels(j), columns), span)
            if not patch.sensors_HW[inside, wanted].any():
                continue
            if not batch.has_room(window := Window(i, j)):
                yield batch
                batch = Batch(lattice, patch.image_HWC.shape[-1], pinned)
            batch.put(window, patch, within(lattice.pixels(j), span))
            found = True
        batch.events.append(_row_end(lattice, i, rows, columns, i == indices[-1], span, patch))
        if batch.is_full or not found or i == indices[-1]:
            yield batch
            batch = None


def _row_end(lattice: Lattice, i: int, rows: slice, columns: slice, last: bool, span: slice, patch: Patch) -> RowEnd:
    """The rows before the next row of the lattice; the last row of the lattice has the rest."""
    window = lattice.pixels(i)
    finished = intersection(rows, slice(window.start, rows.stop if last else window.start + lattice.stride_px))
    sensors_hW = patch.sensors_HW[within(finished, window), within(columns, span)]
    return RowEnd(i, finished, sensors_hW.copy())
