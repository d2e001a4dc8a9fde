"""Rasters that a user names on the command line: anything that GDAL opens, on disk or remote, alone or as a mosaic.

Raw tiles of a data set are limited to the formats of `formats.py`; a user's own command line is not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from components.common.errors import DataError
from components.common.rasterfiles.formats import GDAL_ERRORS, PREFIX, SETTINGS, world_suffixes
from components.common.rasterfiles.headers import Header, header_of
from components.common.rasterfiles.mosaic import open_mosaic
from components.common.rasterfiles.position import parse_prj, parse_world
from components.common.rasterfiles.rasters import Pixels, RasterFile, Rejected, one_sentence, scale_notes
from components.common.rasterfiles.remote_files import RemoteFiles
from components.common.rasterfiles.servers import S3, is_remote, matching

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # for threads too: `position_of` looks further

OWN_NAMES = {"/vsis3/": S3, "/vsicurl/": ""}
"""GDAL's names of remote files -> the start of their URL."""

GDAL_REQUESTS = {
    "GDAL_HTTP_MAX_RETRY": 6,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
}
"""For files that GDAL fetches itself: the remote sources of a VRT on disk, and stores other than S3."""


def open_source(names: Sequence[str], stack: ExitStack) -> RasterFile:
    """Open a raster; no pixel is read yet.

    Args:
        names: one or several files, globs, URLs or VRTs. Several files make a mosaic: later ones lie on top.
        stack: closes the files.

    Raises:
        DataError: a file is missing or unreadable, or files of a mosaic contradict each other.
        TemporaryError: a server does not answer.
    """
    files = [file for name in names for file in expanded(name)]
    stack.enter_context(rasterio.Env(**SETTINGS, **GDAL_REQUESTS, **_endpoint()))
    if len(files) > 1:
        return open_mosaic(files, lambda name: _opened(name, complete=False), stack)
    return stack.enter_context(_opened(files[0], complete=True))


def expanded(name: str) -> list[str]:
    """The files that a name stands for: itself, or for a glob all that match, sorted.

    Raises:
        DataError: a glob matches nothing.
    """
    for start, url in OWN_NAMES.items():
        if name.startswith(start):
            name = url + name.removeprefix(start)
    pattern = has_magic(name) and (name.startswith(S3) or not (PREFIX.match(name) or Path(name).exists()))
    if not pattern:
        return [name]
    found = matching(name) if name.startswith(S3) else sorted(glob(name, recursive=True))
    if not found:
        raise DataError(f"{name}: no file matches; correct the name, and put it in quotes if it has a * or ?")
    return found


def local_files(names: Sequence[str]) -> list[Path]:
    """The files of this machine that are read for rasters, with the sources of VRTs; a missing file counts too.

    Raises:
        DataError: a glob matches nothing.
    """
    files = [file for name in names if not is_remote(name) for file in expanded(name) if not is_remote(file)]
    found = list(map(Path, files))
    for file in files:
        if file.lower().endswith(".vrt") or PREFIX.match(file):
            with suppress(*GDAL_ERRORS), rasterio.open(file) as dataset:  # what is unreadable is reported later
                found += map(Path, dataset.files)
    return found


@contextmanager
def _opened(name: str, *, complete: bool) -> Iterator[RasterFile]:
    """One file; `complete`: look for blocks that were never written, or are missing at its end."""
    if is_remote(name):
        with _opened_remote(name) as file:
            yield file
        return
    path = Path(name)
    if not path.exists() and not name.startswith("/vsi") and not PREFIX.match(name):
        raise Rejected("unreadable", "no such file; correct the name", path)
    place = path if path.exists() else name
    # as with raw tiles, a world file next to a TIFF counts only if the TIFF itself has no position
    options = {"GEOREF_SOURCES": "PAM,INTERNAL"} if path.suffix.lower() in (".tif", ".tiff") else {}
    with ExitStack() as stack:
        with one_sentence(place):
            dataset = stack.enter_context(rasterio.open(name, **options))
            header = header_of(dataset, path if complete and path.is_file() else None)
        yield RasterFile(place, header, dataset, scale_notes(dataset))


@contextmanager
def _opened_remote(url: str) -> Iterator[RasterFile]:
    files, stack = RemoteFiles(url), ExitStack()

    def opened() -> tuple[rasterio.DatasetReader, Header]:
        stack.enter_context(rasterio.Env(**SETTINGS, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"))  # folders are not listed
        if not files.isfile(url):
            raise Rejected("unreadable", "no such file; correct the name", url)
        dataset = stack.enter_context(rasterio.open(url, opener=files))
        return dataset, _placed(header_of(dataset, None), files)

    # rasterio finds an opener only in the thread that opened the file, so all calls go through one thread
    with ThreadPoolExecutor(1, "remote-raster") as thread:
        try:
            with _failures(files), one_sentence(url):
                dataset, header = thread.submit(opened).result()
            yield RasterFile(url, header, RemoteDataset(dataset, files, thread), scale_notes(dataset))
        finally:
            thread.submit(stack.close).result()


def _placed(header: Header, files: RemoteFiles) -> Header:
    """The header, with the position that files next to a remote raster state if it has none itself."""
    suffix = PurePosixPath(files.name).suffix
    start = files.name.removesuffix(suffix)
    if header.transform is None and not header.gcps:
        for world in world_suffixes(suffix.lower()):
            if (text := files.text(start + world)) is not None:
                header = replace(header, transform=parse_world(text, start + world))
                break
    if header.crs is None and header.gcps_crs is None and (text := files.text(f"{start}.prj")) is not None:
        header = replace(header, crs=parse_prj(text, f"{start}.prj"))
    return header


class RemoteDataset:
    """Windows of a remote file; the error of the server is raised, instead of GDAL's."""

    def __init__(self, dataset: rasterio.DatasetReader, files: RemoteFiles, thread: ThreadPoolExecutor) -> None:
        """Wrap an open file and the thread that opened it."""
        self._dataset, self._files, self._thread = dataset, files, thread

    def read(self, indexes: Any, window: Window, out: Pixels | None = None) -> Pixels:
        """Pixels of one band `[h, w]`, or of a list of bands `[bands, h, w]`."""
        with _failures(self._files):
            return self._thread.submit(self._dataset.read, indexes, window=window, out=out).result()

    def read_masks(self, indexes: int, window: Window) -> Pixels:
        """Mask of a band, `[h, w]`; 0 hides a pixel."""
        with _failures(self._files):
            return self._thread.submit(self._dataset.read_masks, indexes, window=window).result()


@contextmanager
def _failures(files: RemoteFiles) -> Iterator[None]:
    """Raise what went wrong with the server, also where GDAL went on without the bytes."""
    try:
        yield
    finally:
        if files.failure is not None:
            raise files.failure from None


def _endpoint() -> dict[str, str]:
    """The S3 endpoint of boto3's variables, in GDAL's words."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return {}
    parts = urlsplit(url)
    return {
        "AWS_S3_ENDPOINT": f"{parts.netloc}{parts.path.rstrip('/')}",
        "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
