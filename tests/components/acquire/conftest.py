"""Tiles of the generated city, painted once for all tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from components.acquire.sample.canvas import LABELS
from components.acquire.sample.tile import Scene, make_scene


@dataclass(frozen=True)
class City:
    scenes: tuple[Scene, ...]

    def pixels(self, name: str) -> np.ndarray:
        """Image pixels of one class, `[N, 3]`."""
        return np.concatenate([scene.image_HW3[scene.label_HW == LABELS[name]] for scene in self.scenes])

    def labels(self) -> np.ndarray:
        return np.stack([scene.label_HW for scene in self.scenes])


@pytest.fixture(scope="session")
def city() -> City:
    return City(tuple(make_scene(7, tile, 640) for tile in ("2_10", "3_11", "4_10", "5_11")))
