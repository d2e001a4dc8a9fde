"""Scores of a rectangle of a raster: all windows that touch it, blended, with one band of windows in memory.

In: inputs, a network, the lattice of the raster, and a rectangle. Out: finished bands of rows, top down. The score of a
pixel is the sum of weight times softmax over its windows, in row-major order and in float32, divided by the sum of the
weights. Neither the rectangle nor the other windows of a batch change it by a bit: also whether a window is computed
without a sensor, and with which temperature, depends on its own pixels only.
Letters: B batch, K classes, M maps (classes, then gates), H W pixels of a window, h W rows and columns of a band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.errors import NonFiniteError
from components.common.inference.modelfile import temperature_of
from components.common.predictors.predictor import Predictor
from components.predict.inputs.scene_inputs import IMAGE, Inputs
from components.predict.scores.lattice import Lattice, overlap
from components.predict.scores.meter import Meter
from components.predict.scores.prefetch import prefetched
from components.predict.scores.streams import Streams
from components.predict.scores.window_batches import Batch, GroupInputs, RowEnd, window_batches

AHEAD = 2
"""Batches that may wait for the network."""


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a rectangle; scores are on the device."""

    rows: slice  # of the raster
    columns: slice  # of the raster
    probabilities_KhW: Tensor  # float32, 0..1; without meaning where no sensor gives a class
    gates_hW: Tensor | None  # float32, 0 DSM only .. 1 image only; None: the network has no gates
    sensors_hW: npt.NDArray[np.uint8]  # 0 no class, 1 image, 2 DSM, 3 both
    agreeing: int  # pairs of windows over a pixel with a class that give the same class
    pairs: int  # pairs of windows over a pixel with a class


@dataclass(frozen=True, slots=True)
class _Finished:
    """A band whose computation is launched, but may still run."""

    end: RowEnd
    scores_MhW: Tensor
    figures_3: Tensor  # int64: agreeing, pairs, whether all logits so far are finite
    mark: torch.cuda.Event | None  # when it is computed


def blended(
    inputs: Inputs, predictor: Predictor, lattice: Lattice, rows: slice, columns: slice, meter: Meter
) -> Iterator[Band]:
    """Yield the bands of a rectangle; they cover it exactly once, top down.

    A thread reads the inputs. Windows without a pixel that gets a class are not computed.

    Args:
        inputs: the raster.
        predictor: the network.
        lattice: windows of the raster.
        rows: rows of the rectangle.
        columns: columns of the rectangle; memory grows with their number.
        meter: counts the finished pixels and the time that the device waits.

    Raises:
        NonFiniteError: the network gives logits that are NaN or infinite.
    """
    streams = Streams(predictor.device, meter)
    with streams.computing(()):
        blender = _Blender(predictor, lattice, columns, streams)
    pinned, by_condition = predictor.device.type == "cuda", predictor.by_condition
    batches = window_batches(inputs, lattice, predictor.facts, rows, columns, by_condition=by_condition, pinned=pinned)
    launched: list[_Finished] = []
    with prefetched(batches, AHEAD, streams.waiting) as taken:
        for batch in taken:
            host = [group.inputs() for group in batch.groups.values()]
            with streams.computing(host) as on_device, torch.inference_mode():
                finished = blender.add(batch, on_device)
            yield from _received(launched, columns, predictor, streams, meter)  # a GPU computes the batch meanwhile
            launched = finished
        yield from _received(launched, columns, predictor, streams, meter)


def _received(
    launched: list[_Finished], columns: slice, predictor: Predictor, streams: Streams, meter: Meter
) -> Iterator[Band]:
    classes = len(predictor.facts.classes)
    for finished in launched:
        scores_MhW, rows = finished.scores_MhW, finished.end.rows
        streams.receive(finished.mark, (scores_MhW, finished.figures_3))
        agreeing, pairs, finite = finished.figures_3.tolist()
        if not finite:
            raise NonFiniteError(
                f"{predictor.identity.name}: the network gives logits that are NaN or infinite in rows {rows.start} to "
                f"{rows.stop} of the raster, so there is no map; train again with a lower train.learning_rate or with "
                "train.max_gradient_norm"
            )
        gates_hW = scores_MhW[classes] if predictor.has_gates else None
        sensors_hW = finished.end.sensors_hW
        yield Band(rows, columns, scores_MhW[:classes], gates_hW, sensors_hW, agreeing, pairs)
        meter.finish(sensors_hW.size)


class _Blender:
    """Sums of the windows over one row of the lattice, `[M, window, columns]`, and the votes of the windows."""

    def __init__(self, predictor: Predictor, lattice: Lattice, columns: slice, streams: Streams) -> None:
        self._predictor, self._lattice, self._columns, self._streams = predictor, lattice, columns, streams
        device, side, width = predictor.device, lattice.window_px, columns.stop - columns.start
        classes = len(predictor.facts.classes)
        profile = lattice.profile()
        self._weight_HW = streams.copied(np.outer(profile, profile).astype(np.float32))
        self._column_weights_W = streams.copied(lattice.column_weights(columns).astype(np.float32))
        self._total_MHW = torch.zeros(classes + predictor.has_gates, side, width, device=device)
        most = math.ceil(side / lattice.stride_px) ** 2  # windows over a pixel
        dtype = torch.uint8 if most <= 255 else torch.int32
        self._votes_KHW = torch.zeros(classes, side, width, dtype=dtype, device=device)
        self._labels_K11 = torch.arange(classes, device=device)[:, None, None]
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def add(self, batch: Batch, on_device: Sequence[GroupInputs]) -> list[_Finished]:
        """Launch a batch, whose groups are in the order of their inputs, and return the bands finished with it."""
        finished = []
        computed = {
            name: self._scores(group.conditions, *inputs)
            for (name, group), inputs in zip(batch.groups.items(), on_device, strict=True)
        }
        for event in batch.events:
            if isinstance(event, RowEnd):
                finished += self._finish(event)
                continue
            here, of_window = overlap(self._columns, self._lattice.pixels(event.j))
            name, slot = batch.place(event)
            scores_BMHW, classes_BHW, finite_B = computed[name]
            self._finite &= finite_B[slot]
            self._total_MHW[:, :, here] += scores_BMHW[slot, :, :, of_window]
            if self._lattice.overlaps:
                self._votes_KHW[:, :, here] += classes_BHW[slot, :, of_window] == self._labels_K11
        return finished

    def _scores(
        self, conditions: Sequence[str], image_BHWC: Tensor | None, dsm_B1HW: Tensor | None, sensors_B1HW: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted scores `[B, M, H, W]`, classes `[B, H, W]`, and whether all logits of a window are finite, `[B]`."""
        image_BCHW = None
        if image_BHWC is not None:
            image_BCHW = image_BHWC.movedim(-1, 1).float().masked_fill(sensors_B1HW & IMAGE == 0, torch.nan)
        maps = self._predictor(image_BCHW, dsm_B1HW)
        logits_BKHW = maps.logits_BKHW.float()
        finite_B = logits_BKHW.flatten(1).sum(1).isfinite()  # a sum of finite logits overflows from about 1e33 only
        scaled_BKHW = self._calibrated(logits_BKHW, conditions)
        scores_BMHW = scaled_BKHW.softmax(1)
        if maps.gates_B1HW is not None:
            scores_BMHW = torch.cat([scores_BMHW, maps.gates_B1HW.float()], dim=1)
        classes_BHW = logits_BKHW.max(1).indices  # five times as fast as argmax on a CPU
        return scores_BMHW.mul_(self._weight_HW), classes_BHW, finite_B

    def _calibrated(self, logits_BKHW: Tensor, conditions: Sequence[str]) -> Tensor:
        """Logits divided by the temperature of each window's condition."""
        facts = self._predictor.facts
        if facts.temperature is None:
            return logits_BKHW
        heats = [temperature_of(facts, condition) or 1.0 for condition in conditions]
        return logits_BKHW / self._streams.copied(np.array(heats, np.float32))[:, None, None, None]

    def _finish(self, end: RowEnd) -> list[_Finished]:
        """The band that ends with a row of the lattice, if it has rows; the unfinished rows move up."""
        stride = self._lattice.stride_px
        top = self._lattice.pixels(end.i).start
        here = slice(end.rows.start - top, end.rows.stop - top)
        finished = []
        if here.start < here.stop:
            row_weights_h = self._streams.copied(self._lattice.row_weights(end.rows).astype(np.float32))
            scores_MhW = self._total_MHW[:, here] / (row_weights_h[:, None] * self._column_weights_W)
            figures_3 = torch.cat([self._agreement(here, end.sensors_hW), self._finite[None].long()])
            finished.append(_Finished(end, scores_MhW, figures_3, self._streams.mark()))
        for sums in (self._total_MHW, self._votes_KHW):
            sums[:, :-stride] = sums[:, stride:].clone()
            sums[:, -stride:] = 0
        return finished

    def _agreement(self, here: slice, sensors_hW: npt.NDArray[np.uint8]) -> Tensor:
        """Agreeing pairs of windows and all pairs, over the pixels with a class, `[2]`; none without overlap."""
        votes_KhW = self._votes_KHW[:, here] * (self._streams.copied(sensors_hW) > 0)
        windows_hW, votes_KhW = votes_KhW.sum(0, dtype=torch.int32), votes_KhW.int()
        windows = windows_hW.sum()
        pairs = [(counts * counts).sum() - windows for counts in (votes_KhW, windows_hW)]
        return torch.stack(pairs) // 2
