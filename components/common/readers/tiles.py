"""The files of a tile, opened on one grid: the one way to read rasters in check, preprocess and predict.

The grid is the image's, or the DSM's if the tile has no image. A tile has an image, a DSM, or both.

In: where the files of a tile are and what dataset.yaml states about them. Out: layers that give rows with values and
masks, and notes on what was done. A layer that cannot be used is a `Rejected` error with the code of a finding; the
user can overrule some of them (`check.accept`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.data.config import Accepted, accepted_from, how_to_accept
from components.common.data.datasets import KINDS, Dataset, FileKind, Sensor
from components.common.data.height_scaling import cell_size
from components.common.data.layerinfo import LabelInfo
from components.common.data.legend import legend_of
from components.common.data.rawtree import sensors_of
from components.common.errors import ParamsError
from components.common.params import subset
from components.common.rasterfiles.formats import sidecars_of, vrt_sources
from components.common.rasterfiles.grids import Grid
from components.common.rasterfiles.position import parse_crs
from components.common.rasterfiles.rasters import Note, Place, RasterFile, Rejected, open_raster
from components.common.readers.heights import HeightLayer
from components.common.readers.images import ImageLayer
from components.common.readers.labels import LabelLayer, contradiction
from components.common.readers.layers import Bands, bands_of, pick
from components.common.readers.opening import Opening, require_read_mask

AnyLayer = ImageLayer | HeightLayer | LabelLayer


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What the user decides about reading; the same for check, preprocess and predict."""

    max_pad_px: int  # how much a layer may lack at an edge of the image, pixels
    max_unknown_share: float  # share of label pixels of no class that is ignored, 0..1
    accept: Accepted = field(default_factory=Accepted)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    """The keys of section `preprocess` that the reader needs."""

    max_pad_px: int
    max_unknown_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Acceptance:
    """The key of section `check` that the reader needs."""

    accept: dict[str, Any]


def reader_settings(document: Mapping[str, Any]) -> ReaderSettings:
    """The settings in a params file: `preprocess.max_pad_px`, `preprocess.max_unknown_share`, `check.accept`.

    Args:
        document: the file as a mapping; of its sections, `check` and `preprocess` are enough.

    Raises:
        ParamsError: a key is missing or has a wrong value.
    """
    limits = subset(document, "preprocess", _Limits)
    try:
        accept = accepted_from(subset(document, "check", _Acceptance).accept)
    except ValueError as error:
        raise ParamsError(f"check.{error}") from None
    return ReaderSettings(limits.max_pad_px, limits.max_unknown_share, accept)


@dataclass(frozen=True, slots=True)
class TileFiles:
    """What a process must know to open a tile."""

    folder: Path  # all paths are below it
    dataset: Dataset
    own: bool  # a user's own data: more pixel types are read, and layers on another grid are warped
    tile: str
    paths: Mapping[FileKind, str]

    def path(self, kind: FileKind) -> Path:
        """The file of a kind."""
        return self.folder / self.paths[kind]

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """What the tile was recorded with."""
        return sensors_of(self.dataset, self.paths)

    def inputs(self) -> list[str]:
        """Everything that shapes the tile, below the folder: rasters, their sidecar files, and the sources of VRTs."""
        found = set(self.paths.values())
        for name in self.paths.values():
            path = self.folder / name
            rasters = [path, *(vrt_sources(path, self.folder) if path.suffix.lower() == ".vrt" else ())]
            for raster in rasters:
                sidecar_files = sidecars_of(raster.name, os.listdir(raster.parent))
                found |= {os.path.relpath(raster.parent / one, self.folder) for one in (raster.name, *sidecar_files)}
        return sorted(found)


class TileReader:
    """Opens the layers of a tile; first the image, or the DSM if there is no image, because it defines the grid."""

    def __init__(self, files: TileFiles, settings: ReaderSettings, stack: ExitStack) -> None:
        """Prepare; the stack closes the files."""
        self.files, self.settings, self._stack = files, settings, stack
        crs = parse_crs(files.dataset.crs) if files.dataset.crs else None
        base = "image" if "rgb" in files.sensors else "DSM"
        self._opening = Opening(crs, settings.max_pad_px, files.own, self._object, base=base)
        self.layers: dict[FileKind, AnyLayer] = {}
        self.grid: Grid | None = None

    def image(self) -> ImageLayer:
        """Open the image.

        Raises:
            Rejected: it cannot be used.
        """
        self.layers["image"] = image = self._opening.image(self._open("image"), self.files.dataset.image)
        self.grid = image.layer.fit.image
        return image

    def dsm(self) -> HeightLayer:
        """Open the heights, on the grid of the image, which is open; without an image their grid is the tile's.

        Raises:
            Rejected: they cannot be used.
        """
        grid = self._grid if "rgb" in self.files.sensors else None
        self.layers["dsm"] = dsm = self._opening.heights(self._open("dsm"), self.files.dataset.dsm, grid)
        self.grid = dsm.layer.fit.image
        return dsm

    def label(self, kind: FileKind) -> LabelLayer:
        """Open the full or the eroded label, on the grid of the tile: image or DSM are open.

        Raises:
            Rejected: it cannot be used.
        """
        dataset, notes = self.files.dataset, list[Note]()
        info = dataset.label if kind == "label" else dataset.eroded
        assert info is not None
        file, legend = self._open(kind), legend_of(dataset, info)
        require_read_mask(file)
        example = f"{kind}.bands: {list(range(1, legend.bands + 1))}" + (
            "" if legend.colours else ", or labels: colours"
        )
        nodata, fewer = None if info.nodata is None else (), "set labels: values if its numbers are classes"
        bands = pick(file, info.bands, legend.bands, nodata, example, fewer, alpha=info.nodata != ())
        file.require_dtype(bands.numbers, legend.dtypes)
        self._require_no_class(kind, file, bands, info)
        layer = self._opening.layer(file, bands, self._grid, notes)
        self.layers[kind] = label = LabelLayer(layer, legend, notes)
        return label

    def finish(self, kind: FileKind) -> None:
        """After all rows of a layer were read: add the notes that need all pixels.

        Raises:
            Rejected: the layer turns out to be unusable.
        """
        layer, names = self.layers[kind], [c.name for c in self.files.dataset.classes]
        steps: list[Callable[[], None]] = [layer.finish]
        if isinstance(layer, LabelLayer):
            steps += [
                layer.require_unscaled,
                lambda: layer.require_seen(kind, names),
                lambda: layer.require_known(self.settings.max_unknown_share),
            ]
        for step in steps:
            try:
                step()
            except Rejected as error:
                self._object(error.code, error.sentence, error.path, layer.notes)

    def bands(self) -> list[slice]:
        """Rows of the tile that go through at once; the same for every reader, and complete cells of the ground."""
        return bands_of(self._grid, cell_size(self.files.dataset.gsd_m))

    @property
    def _grid(self) -> Grid:
        assert self.grid is not None
        return self.grid

    def _open(self, kind: FileKind) -> RasterFile:
        return self._stack.enter_context(open_raster(self.files.path(kind), self.files.folder))

    def _require_no_class(self, kind: FileKind, file: RasterFile, bands: Bands, info: LabelInfo) -> None:
        """Refuse a label file whose own nodata value is a class."""
        dataset, palette = self.files.dataset, file.header.palette
        for nodata in bands.nodata:
            marks = nodata
            if palette is not None and dataset.labels == "colours":
                marks = tuple(map(float, palette.get(int(nodata[0] or 0), (-1, -1, -1))[:3]))
            name = contradiction(marks, legend_of(dataset, info), tuple(c.name for c in dataset.classes))
            if name is not None:
                shown = ", ".join(dict.fromkeys(f"{value:g}" for value in nodata if value is not None))
                sentence = (
                    f"its nodata value {shown} is also the class {name} in dataset.yaml; write nodata: [] under "
                    f"{kind} in dataset.yaml if these pixels are {name}, or remove the class"
                )
                raise Rejected("label-nodata", sentence, file.path)

    def _object(self, code: str, sentence: str, path: Place, notes: list[Note]) -> None:
        """Reject a layer, unless the user has overruled the finding: then it is a note."""
        if not self.settings.accept.covers(code, self.files.tile):
            raise Rejected(code, f"{sentence}{how_to_accept(code, self.files.tile)}", path)
        notes.append(Note(code, sentence))


@dataclass(frozen=True, slots=True)
class OpenTile:
    """All layers of a tile."""

    reader: TileReader
    image: ImageLayer | None  # None: the tile has none; then it has a DSM
    dsm: HeightLayer | None  # None: the tile has none; then it has an image
    label: LabelLayer
    eroded: LabelLayer | None  # None: the data set has no such files

    @property
    def grid(self) -> Grid:
        """Grid of the tile."""
        assert self.reader.grid is not None
        return self.reader.grid

    @property
    def notes(self) -> list[tuple[FileKind, Note]]:
        """What was done and noticed, by layer."""
        layers = self.reader.layers
        return [(kind, note) for kind in KINDS if kind in layers for note in layers[kind].notes]

    def finish(self) -> None:
        """After all rows of all layers were read; raises `Rejected` if a layer turns out to be unusable."""
        for kind in self.reader.layers:
            self.reader.finish(kind)


def open_tile(files: TileFiles, settings: ReaderSettings, stack: ExitStack) -> OpenTile:
    """Open all layers of a tile on its grid.

    Args:
        files: the tile; it has a sensor.
        settings: what the user decides.
        stack: closes the files.

    Raises:
        Rejected: a layer cannot be used.
    """
    reader = TileReader(files, settings, stack)
    image = reader.image() if "rgb" in files.sensors else None
    dsm = reader.dsm() if "dsm" in files.sensors else None
    label = reader.label("label")
    return OpenTile(reader, image, dsm, label, reader.label("eroded") if files.dataset.eroded is not None else None)
