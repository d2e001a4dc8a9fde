"""What the network sees of a scene: image, scaled heights and which sensors there are, in any rectangle.

A scene is read in fixed blocks, counted from its upper left corner, each always in the same way. So a pixel never
depends on the rectangle that is asked for. Beyond the edges of the raster, pixels are reflected from inside.
Only the blocks of the last rectangle stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.height_scaling import scale_part
from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.data.local_ground import Ground
from components.common.inference.modelfile import ModelFacts
from components.common.readers.footprints import pixel_size_m
from components.common.readers.scene import Scene
from components.predict.inputs.scene_ground import SceneGround
from components.predict.inputs.scene_probe import BLOCK_PX, Probe, block_of, probed

IMAGE, DSM = 1, 2
"""Bits of `Patch.sensors_HW`."""

SAME_SIZE = 0.05
"""Pixels whose size differs from that of the training by less than this share look for ground in the same cells."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of a scene; a network of one modality does not see the other one."""

    image_HWC: npt.NDArray[np.uint8]
    dsm_HW: npt.NDArray[np.float32]  # scaled like the training data, NaN = not measured
    sensors_HW: npt.NDArray[np.uint8]  # 0 no class, 1 image, 2 DSM, 3 both


class Inputs:
    """Reads a scene for a model, in one thread."""

    probe: Probe  # what a look at some blocks found

    def __init__(self, scene: Scene, facts: ModelFacts) -> None:
        """Look at the scene.

        Args:
            scene: open files.
            facts: of the model; `heights` defines how heights are scaled.
        """
        self.height_px, self.width_px = self._shape = scene.grid.height_px, scene.grid.width_px
        self.probe, self._heights_seen = probed(scene)
        self._scene, self._heights = scene, facts.heights
        self._has_image = scene.image is not None and "rgb" in facts.network.modalities
        self._has_dsm = scene.dsm is not None and "dsm" in facts.network.modalities
        self._ground: SceneGround | None = None
        if self._has_dsm and facts.heights.ground_radius_m is not None:
            gsd_m = ground_size_m(scene, facts.gsd_m)
            self._ground = SceneGround(scene.metres, self._shape, gsd_m, facts.heights.ground_radius_m)
        self._blocks: dict[tuple[int, int], Patch] = {}

    def read(self, rows: slice, columns: slice) -> Patch:
        """A rectangle of the raster, which may reach beyond its edges. The arrays belong to the caller."""
        row_of, column_of = reflected(rows, self.height_px), reflected(columns, self.width_px)
        inside = [slice(int(of.min()), int(of.max()) + 1) for of in (row_of, column_of)]
        patch = self._assembled(*inside)
        if inside == [rows, columns]:
            return patch
        row_of -= inside[0].start
        column_of -= inside[1].start
        layers = (patch.image_HWC, patch.dsm_HW, patch.sensors_HW)
        return Patch(*(_taken(_taken(layer, row_of, 0), column_of, 1) for layer in layers))

    def _assembled(self, rows: slice, columns: slice) -> Patch:
        """A rectangle within the raster."""
        size = rows.stop - rows.start, columns.stop - columns.start
        whole = Patch(
            np.empty((*size, self._scene.bands), np.uint8), np.empty(size, np.float32), np.empty(size, np.uint8)
        )
        for key, block in self._under(rows, columns):
            ours, its = [], []
            for wanted, there in zip((rows, columns), block_of(*key, self._shape), strict=True):
                first, last = max(wanted.start, there.start), min(wanted.stop, there.stop)
                ours.append(slice(first - wanted.start, last - wanted.start))
                its.append(slice(first - there.start, last - there.start))
            whole.image_HWC[*ours] = block.image_HWC[*its]
            whole.dsm_HW[*ours] = block.dsm_HW[*its]
            whole.sensors_HW[*ours] = block.sensors_HW[*its]
        return whole

    def _under(self, rows: slice, columns: slice) -> Iterator[tuple[tuple[int, int], Patch]]:
        """The blocks under a rectangle; those that are not in memory are read, and all others are dropped."""
        down, right = (range(part.start // BLOCK_PX, (part.stop - 1) // BLOCK_PX + 1) for part in (rows, columns))
        keys = [(i, j) for i in down for j in right]
        self._blocks = {key: self._blocks[key] for key in keys if key in self._blocks}
        if self._ground is not None and (lacking := [key for key in keys if key not in self._blocks]):
            first, last = (block_of(*key, self._shape) for key in (lacking[0], lacking[-1]))
            needed = slice(first[0].start, last[0].stop), slice(right.start * BLOCK_PX, last[1].stop)
            ground = self._ground.over(*needed)
        else:
            ground = None
        for key in keys:
            if key not in self._blocks:
                self._blocks[key] = self._read_block(*block_of(*key, self._shape), ground)
            yield key, self._blocks[key]

    def _read_block(self, rows: slice, columns: slice, ground: Ground | None) -> Patch:
        scene, size = self._scene, (rows.stop - rows.start, columns.stop - columns.start)
        image_HWC = np.zeros((*size, scene.bands), np.uint8)
        dsm_HW, sensors_HW = np.full(size, np.nan, np.float32), np.zeros(size, np.uint8)
        if self._has_dsm:
            dsm_HW = scene.metres(rows, columns)
            sensors_HW = np.isfinite(dsm_HW).astype(np.uint8) * np.uint8(DSM)
            scale_part(dsm_HW, rows, columns, self._heights, ground, self._heights_seen)
        if self._has_image:
            image_HWC, missing_HW = scene.image_rows(rows, columns)
            sensors_HW |= np.uint8(IMAGE)
            sensors_HW[missing_HW] = 0
        return Patch(image_HWC, dsm_HW, sensors_HW)


def trained_layers(facts: ModelFacts) -> tuple[ImageInfo, DsmInfo]:
    """How the pixels of files become values, for a scene of which nothing is known but the model."""
    return (
        ImageInfo(files="", bands=facts.bands, range=facts.image_range, mean=facts.image_mean, std=facts.image_std),
        DsmInfo(files="", relative_to=facts.heights.relative_to),
    )


def ground_size_m(scene: Scene, trained_m: float) -> float:
    """The ground size of a pixel, metres: that of the training if there is hardly a difference, or it is not known."""
    size_m = pixel_size_m(scene.grid)
    if size_m is None:
        return trained_m
    gsd_m = (size_m[0] * size_m[1]) ** 0.5
    return trained_m if abs(gsd_m / trained_m - 1) < SAME_SIZE else gsd_m


def reflected(pixels: slice, size: int) -> npt.NDArray[np.intp]:
    """Indices of the pixels of a side that stand for these, mirrored at its first and last pixel."""
    if size == 1:
        return np.zeros(pixels.stop - pixels.start, np.intp)
    place = np.arange(pixels.start, pixels.stop) % (2 * size - 2)
    return np.minimum(place, 2 * size - 2 - place)


def _taken(layer: npt.NDArray[Any], places: npt.NDArray[np.intp], axis: int) -> npt.NDArray[Any]:
    """Rows or columns of a layer; those that follow one another are copied at once."""
    first = int(places[0])
    follows = places == np.arange(first, first + len(places))
    run = len(places) if follows.all() else int(follows.argmin())
    here = layer[first : first + run] if axis == 0 else layer[:, first : first + run]
    return np.concatenate([here, layer.take(places[run:], axis)], axis) if run < len(places) else here
