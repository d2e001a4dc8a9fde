"""A tile of the sample as files hold it, and as the one raster layer that an analyst opens in QGIS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from components.acquire.sample.tile import make_scene
from components.common.data.height_scaling import cells_of, whole_ground
from components.common.data.local_ground import cell_size
from components.common.inference.modelfile import ModelFacts
from components.predict.config import PredictConfig, PredictRequest
from components.predict.step import run
from tests.components.predict.rasters import write

HEIGHT, WIDTH = 230, 250
"""No whole number of windows covers it."""

NO_OVERLAP = PredictConfig(
    tiles=None, window_px=None, overlap=0.0, batch_size=8, block_px=256, min_agreement=None, precision="trained"
)


@dataclass(frozen=True)
class Town:
    """A tile of the sample."""

    image: Path
    dsm: Path
    image_HWC: np.ndarray  # uint8
    dsm_HW: np.ndarray  # metres, with holes of -9999 and NaN
    layer_HWC: np.ndarray  # the image, then metres above ground, with holes of -9999


def make_town(folder: Path, facts: ModelFacts) -> Town:
    """Write image.tif and dsm.tif, with windows that lack the DSM and a black spot in the image."""
    scene = make_scene(7, "5_11", 256)
    image_HWC, dsm_HW = (layer[:HEIGHT, :WIDTH].copy() for layer in (scene.image_HW3, scene.dsm_HW))
    dsm_HW[40:110, 30:130] = np.nan
    image_HWC[150:170, 100:140] = 0
    cells = cells_of(dsm_HW, cell_size(facts.gsd_m))
    ground = whole_ground(cells, facts.gsd_m, facts.heights.ground_radius_m)
    above_HW = dsm_HW - ground.under(slice(0, HEIGHT), slice(0, WIDTH))
    above_HW[np.isnan(above_HW)] = -9999
    dsm_HW[40:80, 30:130] = -9999
    image, dsm = folder / "image.tif", folder / "dsm.tif"
    write(image, image_HWC)
    write(dsm, dsm_HW)
    return Town(image, dsm, image_HWC, dsm_HW, np.dstack([image_HWC.astype(np.float32), above_HW]))


def predicted(town: Town, model: Path, output: Path) -> np.ndarray:
    """Classes by `mobanet predict` with windows side by side, uint8 `[H, W]`."""
    run(NO_OVERLAP, PredictRequest(output=output, model=str(model), image=(str(town.image),), dsm=(str(town.dsm),)))
    with rasterio.open(output) as file:
        return file.read(1)


def complete(side_px: int) -> tuple[slice, slice]:
    """Pixels of the windows that do not reach beyond the tile; these are the same in every program."""
    return np.s_[: HEIGHT // side_px * side_px, : WIDTH // side_px * side_px]
