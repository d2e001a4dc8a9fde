"""Inputs of a rectangle of a raster, cut into windows and grouped into batches of fixed size.

In: the rectangle. Out: batches in row-major order; a window always has the same slot, and a slot without a window is 0.
If a network computes a window without a sensor in another way, windows with the same sensors form a group of their own:
then the way in which a window is computed depends on its pixels only, not on the other windows of the batch.
Letters: B batch, C image bands, H W pixels of a window, h W rows and columns of a band.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.inference.modelfile import ModelFacts, condition_of
from components.predict.inputs.scene_inputs import IMAGE, Inputs, Patch
from components.predict.scores.lattice import Lattice, Window, intersection, within

GroupInputs = tuple[Tensor | None, Tensor | None, Tensor]
"""Image uint8 `[B, H, W, C]`, DSM float32 and sensors uint8 `[B, 1, H, W]`; None: no window of the group has it."""


class RowEnd:
    """After the last window of a row of the lattice: the rows of the rectangle that are finished then."""

    def __init__(self, i: int, rows: slice, sensors_hW: npt.NDArray[np.uint8]) -> None:
        """State the row of the lattice, rows of the raster, and sensors in them: 0 no class, 1 image, 2 DSM, 3 both."""
        self.i, self.rows, self.sensors_hW = i, rows, sensors_hW


class Group:
    """Inputs of one forward pass, on the host."""

    def __init__(self, lattice: Lattice, bands: int, condition: str, pinned: bool) -> None:
        """Allocate a group.

        Args:
            lattice: the windows.
            bands: bands of the image.
            condition: the sensors that are kept; the other one has no memory.
            pinned: whether the memory can be copied to a GPU in the background.
        """
        size, side, sensors = lattice.batch_size, lattice.window_px, condition.split("+")
        shape, single = (size, side, side, bands), (size, 1, side, side)
        self._image_BHWC = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) if "rgb" in sensors else None
        self._dsm_B1HW = torch.empty(single, dtype=torch.float32, pin_memory=pinned) if "dsm" in sensors else None
        self._sensors_B1HW = torch.empty(single, dtype=torch.uint8, pin_memory=pinned)
        self.conditions = [condition] * size  # of the window in every slot
        self.slots: set[int] = set()

    @property
    def is_full(self) -> bool:
        """Whether every slot has a window."""
        return len(self.slots) == len(self.conditions)

    def put(self, slot: int, patch: Patch, columns: slice, condition: str) -> None:
        """Fill a slot with these columns of a patch with as many rows as a window."""
        if self._image_BHWC is not None:
            self._image_BHWC.numpy()[slot] = patch.image_HWC[:, columns]
        if self._dsm_B1HW is not None:
            self._dsm_B1HW.numpy()[slot] = patch.dsm_HW[:, columns]
        self._sensors_B1HW.numpy()[slot] = patch.sensors_HW[:, columns]
        self.conditions[slot] = condition
        self.slots.add(slot)

    def inputs(self) -> GroupInputs:
        """The tensors; a slot without a window is 0."""
        tensors = (self._image_BHWC, self._dsm_B1HW, self._sensors_B1HW)
        for slot in set(range(len(self.conditions))) - self.slots:
            for tensor in tensors:
                if tensor is not None:
                    tensor.numpy()[slot] = 0
        return tensors


class Batch:
    """Windows that are blended together: at most one per slot and group."""

    def __init__(self, lattice: Lattice, facts: ModelFacts, bands: int, by_condition: bool, pinned: bool) -> None:
        """Begin an empty batch.

        Args:
            lattice: the windows.
            facts: of the model.
            bands: bands of the image.
            by_condition: whether windows with other sensors form other groups; False: there is one group.
            pinned: whether the memory can be copied to a GPU in the background.
        """
        self._lattice, self._bands, self._pinned = lattice, bands, pinned
        self._only = None if by_condition else "rgb+dsm"
        self._facts = facts
        self._of_window: dict[Window, str] = {}
        self.groups: dict[str, Group] = {}  # by the sensors that are kept
        self.events: list[Window | RowEnd] = []  # in the order in which they are blended

    @property
    def is_full(self) -> bool:
        """Whether every slot of every group has a window."""
        return all(group.is_full for group in self.groups.values())

    def place(self, window: Window) -> tuple[str, int]:
        """Group and slot of a window of the batch."""
        return self._of_window[window], self._lattice.slot(window)

    def put(self, window: Window, patch: Patch, columns: slice) -> bool:
        """Add a window: these columns of a patch with as many rows as the window. False: its slot is not free."""
        condition = condition_of(
            self._facts,
            image=bool((patch.sensors_HW[:, columns] & IMAGE).any()),
            dsm=not bool(np.isnan(patch.dsm_HW[:, columns]).all()),
        )
        name, slot = self._only or condition, self._lattice.slot(window)
        if name not in self.groups:
            self.groups[name] = Group(self._lattice, self._bands, name, self._pinned)
        if slot in self.groups[name].slots:
            return False
        self.groups[name].put(slot, patch, columns, condition)
        self._of_window[window] = name
        self.events.append(window)
        return True


def window_batches(
    inputs: Inputs,
    lattice: Lattice,
    facts: ModelFacts,
    rows: slice,
    columns: slice,
    *,
    by_condition: bool,
    pinned: bool,
) -> Iterator[Batch]:
    """Yield all windows that touch a rectangle and have a pixel in it that gets a class.

    Args:
        inputs: the raster.
        lattice: its windows.
        facts: of the model.
        rows: rows of the rectangle.
        columns: columns of the rectangle.
        by_condition: whether the windows of a forward pass must have the same sensors.
        pinned: whether the batches can be copied to a GPU in the background.
    """
    indices, window_columns = lattice.window_rows(rows), lattice.window_columns(columns)
    span = slice(lattice.pixels(window_columns[0]).start, lattice.pixels(window_columns[-1]).stop)
    batch: Batch | None = None
    for i in indices:
        patch = inputs.read(lattice.pixels(i), span)
        settings = (lattice, facts, patch.image_HWC.shape[-1], by_condition, pinned)
        batch = batch or Batch(*settings)
        inside = within(intersection(lattice.pixels(i), rows), lattice.pixels(i))
        found = False
        for j in window_columns:
            wanted = within(intersection(lattice.pixels(j), columns), span)
            if not patch.sensors_HW[inside, wanted].any():
                continue
            here = within(lattice.pixels(j), span)
            if not batch.put(Window(i, j), patch, here):
                yield batch
                batch = Batch(*settings)
                batch.put(Window(i, j), patch, here)
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
