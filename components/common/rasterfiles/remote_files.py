"""Remote files as GDAL reads them: with a position, in memory what was read last, and ahead what comes next."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from rasterio.abc import MultiByteRangeResourceContainer

from components.common.errors import DataError, TemporaryError
from components.common.rasterfiles.servers import Refused, byte_range, is_remote, patiently

CHUNK = 64 * 1024
"""Bytes are fetched in multiples of this size."""

MOST_AHEAD, MOST_KEPT = 16, 256
"""Chunks that are fetched ahead in a file that is read in order, and chunks of a file that stay in memory."""

THREADS = 8
"""Requests at the same time for the blocks of a window."""

SIDECARS = (".aux.xml", ".msk")
"""Endings of files next to a raster that GDAL may look for; it asks for dozens that a server does not have."""


class RemoteFiles:
    """What GDAL sees of the server of one raster: the raster, its sidecars, and for a VRT its sources."""

    def __init__(self, name: str) -> None:
        """Start with nothing known about the server."""
        self.name = name
        self.failure: DataError | TemporaryError | None = None  # GDAL hides what its callbacks raise
        self._sizes: dict[str, int | None] = {}

    def open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        """A file to read from; FileNotFoundError if it is no part of the raster."""
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return RemoteFile(path, self.size(path), self)

    def isfile(self, path: str) -> bool:
        """Whether the server has a file that may belong to the raster."""
        if path not in self._sizes:
            wanted = path == self.name or path.endswith(SIDECARS) or self.name.endswith(".vrt")
            self._sizes[path] = self._size(path) if wanted and is_remote(path) else None
        return self._sizes[path] is not None

    def isdir(self, path: str) -> bool:
        """No path is a folder."""
        return False

    def ls(self, path: str) -> list[str]:
        """Folders are not listed."""
        return []

    def mtime(self, path: str) -> int:
        """Time of the last change; not used."""
        return 0

    def rm(self, path: str) -> None:
        """Nothing is removed."""

    def size(self, path: str) -> int:
        """Size of a file that exists, bytes."""
        return self._sizes[path] or 0

    def fetch(self, path: str, start: int, stop: int) -> bytes:
        """Bytes of a file, `start` to `stop - 1`; an error is raised, and kept as `failure`."""
        try:
            return patiently(path, lambda: byte_range(path, start, stop)[0])
        except (DataError, TemporaryError) as error:
            self.failure = error
            raise

    def text(self, path: str) -> str | None:
        """A small file next to the raster; None: there is none."""
        size = self._size(path)
        return self.fetch(path, 0, size).decode("utf-8-sig", "replace") if size else None

    def _size(self, path: str) -> int | None:
        try:
            return patiently(path, lambda: _found(path, must=path == self.name))
        except (DataError, TemporaryError) as error:
            self.failure = error
            return None


MultiByteRangeResourceContainer.register(RemoteFiles)


class RemoteFile(io.RawIOBase):
    """A remote file with a position, as GDAL reads files; keeps what was read last in memory."""

    def __init__(self, path: str, size: int, files: RemoteFiles) -> None:
        """Start at the first byte."""
        self._path, self._size, self._files = path, size, files
        self._position, self._next, self._ahead = 0, -1, 1
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def seekable(self) -> bool:
        """Any position can be read."""
        return True

    def readable(self) -> bool:
        """It can be read."""
        return True

    def tell(self) -> int:
        """Position, bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position; returns it."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer at the end."""
        start = self._position
        stop = self._size if size < 0 else min(start + size, self._size)
        if start >= stop:
            return b""
        chunks = _chunks(start, stop - start)
        if missing := [chunk for chunk in chunks if chunk not in self._chunks]:
            self._fetch(missing[0], missing[-1] + 1)
        content = b"".join(map(self._use, chunks))
        self._forget()
        self._position = stop
        return content[start % CHUNK : start % CHUNK + stop - start]

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several ranges, fetched at the same time; GDAL asks for all blocks of a window in one call."""
        chunks = sorted({chunk for offset, size in zip(offsets, sizes, strict=True) for chunk in _chunks(offset, size)})
        missing = [chunk for chunk in chunks if chunk not in self._chunks]
        starts = [n for n, chunk in enumerate(missing) if n == 0 or chunk != missing[n - 1] + 1]
        runs = [(missing[start], missing[end - 1] + 1) for start, end in pairwise([*starts, len(missing)])]
        if len(runs) == 1:
            self._fetch(*runs[0])
        elif runs:
            with ThreadPoolExecutor(THREADS) as pool:
                for (first, _), content in zip(runs, pool.map(self._get, runs), strict=True):
                    self._keep(first, content)
        for chunk in chunks:
            self._use(chunk)
        parts = []
        for offset, size in zip(offsets, sizes, strict=True):
            content = b"".join(self._chunks[chunk] for chunk in _chunks(offset, size))
            parts.append(content[offset % CHUNK : offset % CHUNK + size])
        self._forget()
        return parts

    def _use(self, chunk: int) -> bytes:
        self._chunks.move_to_end(chunk)
        return self._chunks[chunk]

    def _fetch(self, first: int, end: int) -> None:
        """Fetch chunks with one request, and some more if the file is read in order."""
        self._ahead = min(2 * self._ahead, MOST_AHEAD) if first == self._next else 1
        self._next = end = end + self._ahead - 1
        self._keep(first, self._get((first, end)))

    def _get(self, run: tuple[int, int]) -> bytes:
        return self._files.fetch(self._path, run[0] * CHUNK, min(run[1] * CHUNK, self._size))

    def _keep(self, first: int, content: bytes) -> None:
        for start in range(0, len(content), CHUNK):
            self._chunks[first + start // CHUNK] = content[start : start + CHUNK]

    def _forget(self) -> None:
        while len(self._chunks) > MOST_KEPT:
            self._chunks.popitem(last=False)


def _chunks(offset: int, size: int) -> range:
    return range(offset // CHUNK, (offset + max(size, 1) - 1) // CHUNK + 1)


def _found(path: str, *, must: bool) -> int | None:
    """Size of a file; None: there is none, and there need not be one."""
    try:
        return byte_range(path, 0, 1)[1]
    except Refused as error:
        if must or error.status not in (403, 404):  # S3 answers 403 for a missing object to who may not list the bucket
            raise
        return None
