"""Windows drawn at random from scenes, as a model sees them.

In: scenes, a model, a number of windows. Out: their pixels, and how many areas they lie in.
Windows of which less than half gets a class are left out, so the margin around a scene does not count.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from components.common.drift.quantities import WindowPixels
from components.common.drift.reference_windows import Reference
from components.common.drift.window_places import Place, shuffled_places
from components.common.errors import DataError
from components.common.inference.modelfile import ModelFacts
from components.common.readers.scene import Scene, SceneFiles, open_scene
from components.predict.inputs.scene_inputs import Inputs, trained_layers
from components.predict.inputs.suitability import objections
from components.predict.publication.scenes import SceneNames

log = logging.getLogger(__name__)

LEAST_SHARE = 0.5
"""Share of a window's pixels that get a class, at least."""

MOST_LOOKS = 20
"""Largest number of windows that are read for each window that is wanted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Windows of scenes."""

    windows: list[WindowPixels]
    areas: int  # areas of the size of those of the reference that the windows lie in
    scenes: list[str]  # names of the scenes that were looked at
    objections: list[str]  # why `mobanet predict` would reject a scene, one sentence each


def draw_windows(
    scenes: Sequence[SceneNames], facts: ModelFacts, reference: Reference, count: int, crs: str | None, seed: int
) -> Drawn:
    """Draw windows from scenes; a larger scene gives more of them.

    Args:
        scenes: at least one; if there are more scenes than windows, some are chosen at random.
        facts: of the model.
        reference: tells the size of windows and areas.
        count: number of windows; fewer if the scenes are small.
        crs: of files that state none; None: as the files state.
        seed: of the choice.

    Raises:
        Rejected: a raster cannot be read.
        DataError: no window has pixels that get a class.
    """
    order = np.random.default_rng(seed).permutation(len(scenes))[:count]
    chosen = [scenes[i] for i in sorted(order.tolist())]
    side = reference.window_px
    with ExitStack() as stack:
        opened = [_opened(scene, facts, crs, stack) for scene in chosen]
        shapes = [(scene.grid.height_px, scene.grid.width_px) for scene in opened]
        looks = _Looks(opened, [scene.name for scene in chosen], facts)
        places: list[Place] = []
        windows: list[WindowPixels] = []
        for place, _ in zip(shuffled_places(shapes, side, seed), range(MOST_LOOKS * count), strict=False):
            window = looks.window(place, side)
            if np.count_nonzero(window.sensors_HW) >= LEAST_SHARE * window.sensors_HW.size:
                places.append(place)
                windows.append(window)
            if len(windows) == count:
                break
    if not windows:
        raise DataError(
            f"{', '.join(scene.name for scene in chosen[:5])}: no window of {side} px has pixels that get a class; "
            "check nodata values and whether image and DSM overlap"
        )
    if len(windows) < count:
        log.warning("the scenes have %d windows, not %d", len(windows), count)
    side = reference.area_px
    areas = len({(place.raster, place.row // side, place.column // side) for place in places})
    return Drawn(windows, areas, [scene.name for scene in chosen], looks.objections)


def _opened(scene: SceneNames, facts: ModelFacts, crs: str | None, stack: ExitStack) -> Scene:
    return open_scene(SceneFiles(scene.image, scene.dsm, *trained_layers(facts), crs), stack)


class _Looks:
    """Reads windows; a scene is probed when its first window is read."""

    def __init__(self, scenes: Sequence[Scene], names: Sequence[str], facts: ModelFacts) -> None:
        self._scenes, self._names, self._facts = scenes, names, facts
        self._inputs: dict[int, Inputs] = {}
        self.objections: list[str] = []

    def window(self, place: Place, side_px: int) -> WindowPixels:
        """A window, cut at the edges of a scene that is smaller."""
        inputs = self._inputs_of(place.raster)
        sides = inputs.height_px, inputs.width_px
        rows, columns = (
            slice(part.start, min(part.stop, size)) for part, size in zip(place.pixels(side_px), sides, strict=True)
        )
        patch = inputs.read(rows, columns)
        return WindowPixels(patch.image_HWC, patch.dsm_HW, patch.sensors_HW)

    def _inputs_of(self, raster: int) -> Inputs:
        if raster not in self._inputs:
            scene = self._scenes[raster]
            self._inputs[raster] = Inputs(scene, self._facts)
            for objection in objections(scene, self._inputs[raster].probe, self._facts):
                self.objections.append(f"{self._names[raster]}: {objection.sentence}")
        return self._inputs[raster]
