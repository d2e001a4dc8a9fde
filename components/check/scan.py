"""One tile: all its layers read with the common reader, on the grid of the tile; run in a worker process.

In: which files a tile has. Out: `TileFacts`. What the reader rejects or notes becomes part of the facts, never an
exception, and the other layers are still read. The image gives the grid, or the DSM if there is no image; if that layer
cannot be opened, nothing else is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import relpath
from typing import Any

import numpy as np

from components.check.facts import FileFacts, Reported, TileFacts
from components.check.pixels import HeightSums, ImageSums, LabelSums, PixelSums
from components.common.data.datasets import KINDS, FileKind
from components.common.data.legend import Labels
from components.common.rasterfiles.rasters import Rejected
from components.common.readers.heights import HeightLayer
from components.common.readers.images import ImageLayer, ImageRows
from components.common.readers.labels import LabelLayer, LabelRows
from components.common.readers.tiles import AnyLayer, ReaderSettings, TileFiles, TileReader

SAMPLE_SIDE = 512
"""About so many rows and columns are enough for what classes look like."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """What a process must know to read one tile."""

    files: TileFiles
    settings: ReaderSettings


def scan_tile(job: TileJob) -> TileFacts:
    """Read all files of a tile."""
    with ExitStack() as stack:
        scan = TileScan(job, stack)
        scan.open()
        if scan.reader.grid is not None:
            labels = scan.read_pictures()
            scan.read_heights(labels)
            scan.finish()
        return scan.facts()


class TileScan:
    """The open layers of a tile and the sums over them."""

    def __init__(self, job: TileJob, stack: ExitStack) -> None:
        """Prepare; the stack closes the files."""
        self.files = job.files
        self.reader = TileReader(job.files, job.settings, stack)
        self._classes = len(job.files.dataset.classes)
        self._rejected: dict[FileKind, Rejected] = {}
        self._pixels: dict[FileKind, PixelSums] = {}
        self._sums: dict[FileKind, ImageSums | HeightSums | LabelSums] = {}
        self._complete: list[FileKind] = []
        self._step = 1

    def open(self) -> None:
        """Open the layer that gives the grid, then those that lie on it."""
        sensors = self.files.sensors
        base = "image" if "rgb" in sensors else "dsm"
        for kind in (kind for kind in KINDS if sensors and kind in self.files.paths):
            if kind != base and self.reader.grid is None:
                return
            with self._rejecting(kind):
                layer = self._open(kind)
                self._pixels[kind] = PixelSums()
                self._sums[kind] = _sums_over(layer, self._classes)
        if self.reader.grid is not None:
            self._step = max(1, min(self.reader.grid.height_px, self.reader.grid.width_px) // SAMPLE_SIDE)

    def read_pictures(self) -> list[Labels | None]:
        """Read image and labels; returns a sample of the full label for each band of rows."""
        return [self._read_pictures(rows) for rows in self.reader.bands()]

    def read_heights(self, labels: list[Labels | None]) -> None:
        """Read the heights; again, if they turn out to hold a nodata value that the file does not name.

        Args:
            labels: from `read_pictures`.
        """
        dsm = self.reader.layers.get("dsm")
        while isinstance(dsm, HeightLayer):
            pixels, sums = PixelSums(), HeightSums(dsm, self._classes)
            with self._rejecting("dsm"):
                for rows, y_hW in zip(self.reader.bands(), labels, strict=True):
                    metres_hW = dsm.metres(rows)
                    pixels.add(metres_hW[None], np.isnan(metres_hW))
                    sums.add(metres_hW)
                    if y_hW is not None:
                        sums.add_classes(self._thin(metres_hW, rows), y_hW)
            self._pixels["dsm"], self._sums["dsm"] = pixels, sums
            if "dsm" in self._rejected or not dsm.learned():
                return

    def finish(self) -> None:
        """After everything was read: let the reader judge what needs all pixels."""
        self._complete = [kind for kind in self.reader.layers if kind not in self._rejected]
        for kind in self._complete:
            with self._rejecting(kind):
                self.reader.finish(kind)

    def facts(self) -> TileFacts:
        """Everything that was learnt."""
        contents: dict[FileKind, Any] = {kind: self._sums[kind].facts() for kind in self._complete}
        return TileFacts(
            tile=self.files.tile,
            places=self.files.paths,
            files={kind: _header(self.files.paths[kind], layer) for kind, layer in self.reader.layers.items()},
            pixels={kind: self._pixels[kind].facts() for kind in self._complete},
            reported={kind: tuple(self._reported(kind)) for kind in self.files.paths},
            **contents,
        )

    def _open(self, kind: FileKind) -> AnyLayer:
        if kind == "image":
            return self.reader.image()
        return self.reader.dsm() if kind == "dsm" else self.reader.label(kind)

    @contextmanager
    def _rejecting(self, kind: FileKind) -> Iterator[None]:
        """Note that the reader rejects a layer."""
        try:
            yield
        except Rejected as error:
            self._rejected[kind] = error

    def _read_pictures(self, rows: slice) -> Labels | None:
        """Read rows of image and labels; returns a sample of the full label."""
        image = self._read_image(rows)
        full = self._read_label("label", rows, image)
        eroded = self._read_label("eroded", rows, image)
        if full is None:
            return None
        thin_hW = self._thin(full.y_hW, rows)
        if image is not None and isinstance(sums := self._sums["image"], ImageSums):
            sums.add_classes(self._thin(image.pixels_BhW, rows), thin_hW)
        if eroded is not None and isinstance(sums := self._sums["eroded"], LabelSums):
            sums.compare(eroded.y_hW, full.y_hW)
        return thin_hW

    def _read_image(self, rows: slice) -> ImageRows | None:
        layer, sums = self.reader.layers.get("image"), self._sums.get("image")
        if "image" in self._rejected or not (isinstance(layer, ImageLayer) and isinstance(sums, ImageSums)):
            return None
        with self._rejecting("image"):
            image = layer.rows(rows)
            limits = self._pixels["image"].add(image.pixels_BhW, image.missing_hW)
            sums.add(image.pixels_BhW, image.missing_hW, limits)
            missing_hW = None if image.missing_hW is None else self._thin(image.missing_hW, rows)
            sums.add_sample(self._thin(image.pixels_BhW, rows), missing_hW)
            return image
        return None

    def _read_label(self, kind: FileKind, rows: slice, image: ImageRows | None) -> LabelRows | None:
        layer, sums = self.reader.layers.get(kind), self._sums.get(kind)
        if kind in self._rejected or not (isinstance(layer, LabelLayer) and isinstance(sums, LabelSums)):
            return None
        with self._rejecting(kind):
            label = layer.rows(rows, None if image is None else image.missing_hW)
            self._pixels[kind].add(label.pixels_BhW, label.missing_hW)
            sums.add(label)
            return label
        return None

    def _thin(self, values: Any, rows: slice) -> Any:
        """Every so many rows and columns, the same pixels of the tile however its rows are read."""
        return values[..., -rows.start % self._step :: self._step, :: self._step]

    def _reported(self, kind: FileKind) -> Iterator[Reported]:
        if kind in self.reader.layers:
            for note in self.reader.layers[kind].notes:
                yield Reported(note.code, note.sentence, self.files.paths[kind], False)
        if error := self._rejected.get(kind):
            yield Reported(error.code, error.sentence, relpath(error.path, self.files.folder), True)


def _sums_over(layer: AnyLayer, classes: int) -> ImageSums | HeightSums | LabelSums:
    if isinstance(layer, ImageLayer):
        return ImageSums(layer, classes)
    return HeightSums(layer, classes) if isinstance(layer, HeightLayer) else LabelSums(layer, classes)


def _header(place: str, layer: AnyLayer) -> FileFacts:
    header, numbers = layer.layer.file.header, layer.layer.bands.numbers
    return FileFacts(
        path=place,
        grid=layer.layer.fit.layer,
        bands=header.bands,
        dtype=" ".join(dict.fromkeys(header.dtypes[number - 1] for number in numbers)),
        nodata=header.nodata[numbers[0] - 1],
        colours=tuple(header.colours[number - 1] for number in numbers),
    )
