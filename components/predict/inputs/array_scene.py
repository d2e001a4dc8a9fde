"""Arrays in memory as a scene, read by the code that reads files: so equal pixels give equal inputs of the network.

Heights pass the same checks as those of a file: usual nodata values, impossible heights and values that repeat far from
all others are not measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.windows import Window

from components.common.inference.modelfile import ModelFacts
from components.common.rasterfiles.headers import Header
from components.common.rasterfiles.rasters import Note, Pixels, Place, RasterFile
from components.common.readers.opening import Opening
from components.common.readers.scene import BANDS_OPTION, Scene
from components.predict.inputs.scene_inputs import trained_layers


def array_scene(
    image_HWC: npt.NDArray[np.uint8] | None,
    dsm_HW: npt.NDArray[np.float32] | None,
    facts: ModelFacts,
    gsd_m: float | None,
) -> Scene:
    """A scene of arrays, of which at least one is given; they have the same height and width.

    Args:
        image_HWC: bands in the model's order, with the pixel values of an image file.
        dsm_HW: metres, NaN = not measured.
        facts: of the model.
        gsd_m: ground size of a pixel, metres; None: unknown.
    """
    image_info, dsm_info = trained_layers(facts)
    opening = Opening(None, 0, True, _note, BANDS_OPTION)
    image = dsm = grid = None
    if image_HWC is not None:
        image = opening.image(_file("image", np.moveaxis(image_HWC, -1, 0), gsd_m), image_info)
        grid = image.layer.fit.image
    if dsm_HW is not None:
        dsm = opening.heights(_file("dsm", dsm_HW[None], gsd_m), dsm_info, grid)
        grid = dsm.layer.fit.image
    assert grid is not None, "neither an image nor heights"
    return Scene(grid, image, dsm, len(facts.bands))


class _Windows:
    """Windows of an array `[B, H, W]`."""

    def __init__(self, pixels_BHW: Pixels) -> None:
        self._pixels_BHW = pixels_BHW

    def read(self, indexes: Any, window: Window, out: Pixels | None = None) -> Pixels:
        """A copy of the pixels of one band `[h, w]`, or of a list of bands `[bands, h, w]`."""
        rows, columns = window.toslices()
        found = self._pixels_BHW[np.asarray(indexes) - 1, rows, columns]
        if out is None:
            return found.copy()
        out[...] = found
        return out

    def read_masks(self, indexes: int, window: Window) -> Pixels:
        """Mask of a band, `[h, w]`: no pixel is hidden."""
        return np.full((window.height, window.width), 255, np.uint8)


def _file(name: str, pixels_BHW: Pixels, gsd_m: float | None) -> RasterFile:
    """An array as an open file that states its pixel type and, if it is known, the ground size of its pixels."""
    bands, height_px, width_px = pixels_BHW.shape
    header = Header(
        driver="MEM",
        width_px=width_px,
        height_px=height_px,
        dtypes=(pixels_BHW.dtype.name,) * bands,
        transform=None if gsd_m is None else Affine(gsd_m, 0, 0, 0, -gsd_m, 0),
        crs=None,
        gcps=(),
        gcps_crs=None,
        nodata=(None,) * bands,
        scales=(1.0,) * bands,
        offsets=(0.0,) * bands,
        units=(None,) * bands,
        colours=("undefined",) * bands,
        palette=None,
        descriptions=("",) * bands,
        masks=(None,) * bands,
        unwritten_share=0.0,
    )
    return RasterFile(name, header, _Windows(pixels_BHW))


def _note(code: str, sentence: str, path: Place, notes: list[Note]) -> None:
    notes.append(Note(code, sentence))
