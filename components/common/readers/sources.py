"""Rasters that a user names on the command line: anything that GDAL opens, on disk or remote, alone or as a mosaic."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from components.common.readers.formats import SETTINGS
from components.common.readers.headers import header_of
from components.common.readers.rasters import RasterFile, one_sentence, scale_notes


def open_source(names: Sequence[str], stack: ExitStack) -> RasterFile:
    """Open a raster; no pixel is read yet.

    Args:
        names: one or several files, globs, URLs or VRTs. Several make a mosaic: later files lie on top.
        stack: closes the files.

    Raises:
        Rejected: a file is missing or unreadable, or files of a mosaic contradict each other.
    """
    path = Path(names[0])
    stack.enter_context(rasterio.Env(**SETTINGS))
    with one_sentence(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = stack.enter_context(rasterio.open(path))
        return RasterFile(path, header_of(dataset, path), dataset, scale_notes(dataset))
