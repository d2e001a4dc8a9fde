"""A scene: an image and a DSM of any size that a user names, read in rectangles of one grid.

The grid is the image's, or the DSM's if there is no image. A DSM on another grid or in another reference system is
warped; where it does not cover the image, nothing is measured. Either of them may be missing.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.errors import DataError
from components.common.rasterfiles.grids import Grid
from components.common.rasterfiles.position import parse_crs
from components.common.rasterfiles.rasters import Mask, Note, Place
from components.common.rasterfiles.source_files import open_source
from components.common.readers.heights import HeightLayer
from components.common.readers.images import ImageLayer
from components.common.readers.layers import Heights
from components.common.readers.opening import Opening

BANDS_OPTION = "--bands"
"""Option of the command line that picks bands of the image."""


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """Where a scene is, and what is known about its pixels."""

    image: tuple[str, ...]  # names as the user gave them; empty: no image
    dsm: tuple[str, ...]  # the same for heights
    image_info: ImageInfo
    dsm_info: DsmInfo
    crs: str | None  # of files that state none, for example EPSG:32633


@dataclass(frozen=True, slots=True)
class Scene:
    """An open scene. A rectangle consists of rows and columns of its grid, within the grid."""

    grid: Grid
    image: ImageLayer | None
    dsm: HeightLayer | None
    bands: int  # of the image that is expected, also if there is none

    @property
    def notes(self) -> list[tuple[str, Note]]:
        """What was done and noticed, by layer: image or dsm."""
        layers = {"image": self.image, "dsm": self.dsm}
        notes = [(kind, note) for kind, layer in layers.items() if layer is not None for note in layer.notes]
        if self.dsm is not None and (what := self.dsm.hidden):
            notes.append(("dsm", Note("dsm-nodata-found", f"{what}: state it in the file with gdal_edit -a_nodata")))
        return notes

    def image_rows(self, rows: slice, columns: slice) -> tuple[npt.NDArray[np.uint8], Mask]:
        """Pixels of the image `[h, w, C]`, 0..255, and where there are none `[h, w]`: nodata, alpha 0 or masked."""
        size = rows.stop - rows.start, columns.stop - columns.start
        if self.image is None:
            return np.zeros((*size, self.bands), np.uint8), np.ones(size, np.bool_)
        read = self.image.rows(rows, columns)
        return read.image_hWC, np.zeros(size, np.bool_) if read.missing_hW is None else read.missing_hW

    def metres(self, rows: slice, columns: slice) -> Heights:
        """Heights `[h, w]`, metres, NaN = not measured; all NaN without a DSM.

        A warped pixel depends on the rectangle in its last digits: ask for the same rectangles to get equal heights.
        """
        if self.dsm is None:
            return np.full((rows.stop - rows.start, columns.stop - columns.start), np.nan, np.float32)
        return self.dsm.metres(rows, columns)


def open_scene(files: SceneFiles, stack: ExitStack) -> Scene:
    """Open a scene; no pixel is read yet.

    Args:
        files: where it is.
        stack: closes the files.

    Raises:
        Rejected: a raster cannot be used.
        DataError: there is neither an image nor a DSM.
    """
    opening = Opening(parse_crs(files.crs) if files.crs else None, 0, True, _note, BANDS_OPTION)
    image = opening.image(open_source(files.image, stack), files.image_info) if files.image else None
    grid = None if image is None else image.layer.fit.image
    dsm = opening.heights(open_source(files.dsm, stack), files.dsm_info, grid) if files.dsm else None
    if grid is None and dsm is not None:
        grid = dsm.layer.fit.image
    if grid is None:
        raise DataError("a scene has neither an image nor a DSM; name at least one raster")
    return Scene(grid, image, dsm, len(files.image_info.bands))


def _note(code: str, sentence: str, path: Place, notes: list[Note]) -> None:
    notes.append(Note(code, sentence))
