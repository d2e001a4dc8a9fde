"""Sidecar files of rasters (masks, headers, CRS, world files), found among the files of a source.

They lie next to their raster. Case and Unicode form of the names do not matter; in data/raw a sidecar gets the exact
name of its raster, because GDAL looks for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from components.acquire.archives import Found
from components.common.rasterfiles.formats import folded, sidecar_keys, sidecar_name


class Sidecars:
    """An index of a source's files."""

    def __init__(self, files: Iterable[tuple[str, Found]]) -> None:
        """Index the files by path; the paths of rasters in `of` have the same form."""
        self._files = {folded(path): (path, found) for path, found in files}

    def of(self, raster: str, place: str) -> dict[str, Found]:
        """The sidecars of a raster, by the file name that they get next to its place."""
        found = (self._files[key] for key in sidecar_keys(raster) if key in self._files)
        names = ((sidecar_name(place, raster, path), file) for path, file in found)
        return {PurePosixPath(name).name: file for name, file in names}
