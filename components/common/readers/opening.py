"""An image and its heights as layers on one grid: the way in which tiles of a data set and scenes are opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rasterio.crs import CRS

from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.rasterfiles.grids import Grid, Rules, fit
from components.common.rasterfiles.position import position_of
from components.common.rasterfiles.rasters import Note, Place, RasterFile, Rejected
from components.common.readers.heights import HeightLayer
from components.common.readers.images import ImageLayer, is_grey
from components.common.readers.layers import Bands, Layer, pick

IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
"""Pixel types of images in a user's own data; images of a benchmark have 8 bits."""

WHOLE_DTYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
"""Pixel types of heights in a user's own data, or with a scale; in addition to float32 and float64."""

Doubt = Callable[[str, str, Place, list[Note]], None]
"""Gets the code of a finding, a sentence, the file and the notes of its layer; raises `Rejected` or adds a note."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What layers may be like, and who decides in case of doubt."""

    crs: CRS | None  # of files that state none
    max_pad_px: int  # how much a layer may lack at an edge of the image, pixels
    own: bool  # a user's own data: more pixel types are read, and layers on another grid are warped
    doubt: Doubt  # about the position of a layer
    option: str | None = None  # of the command line that picks bands of the image; None: `bands` in dataset.yaml does
    base: str = "image"  # what the grid of a tile is taken from, for messages

    def image(self, file: RasterFile, info: ImageInfo) -> ImageLayer:
        """The image; its grid is that of all layers.

        Raises:
            Rejected: it cannot be used.
        """
        require_read_mask(file)
        numbers = range(1, len(info.bands) + 1)
        example = f"image.bands: {{{', '.join(f'{name}: {n}' for name, n in zip(info.bands, numbers, strict=True))}}}"
        more, fewer = example, "name its bands in image.bands"
        if self.option is not None:
            more, fewer = f"{self.option} {','.join(map(str, numbers))}", "use a model of its bands"
        alpha = info.nodata != ()
        bands = pick(
            file, info.band_numbers, len(info.bands), info.nodata, more, fewer, alpha=alpha, option=self.option
        )
        if bands.palette and len(info.bands) == 1 and info.band_numbers is None and not is_grey(bands.palette):
            remedy = f"name three bands in image.bands, or read its numbers with {more}"
            if self.option is not None:
                remedy = f"read its numbers with {more}, or use a model of three bands"
            raise Rejected("band-count", f"has a colour table; {remedy}", file.path)
        file.require_dtype(bands.numbers, IMAGE_DTYPES if self.own else ("uint8",))
        notes = list[Note]()
        grid = self._grid(file, notes)
        self._require_crs(file, grid, notes)
        return ImageLayer(Layer(file, bands, fit(file.path, grid, grid, self._rules(False))), info, notes)

    def heights(self, file: RasterFile, info: DsmInfo, image: Grid | None) -> HeightLayer:
        """Heights on the grid of an image, or on their own grid if there is no image.

        Raises:
            Rejected: they cannot be used.
        """
        require_read_mask(file)
        fewer = "convert it with gdal_translate"
        option = None if self.option is None else "gdal_translate"
        more = "dsm.bands: [1]" if option is None else "gdal_translate -b 1"
        bands = pick(file, info.bands, 1, info.nodata, more, fewer, option=option)
        stated = file.header.scales[bands.numbers[0] - 1], file.header.offsets[bands.numbers[0] - 1]
        scaled = (info.scale, info.offset) != (None, None) or stated != (1, 0)
        file.require_dtype(bands.numbers, self._dsm_dtypes(info, scaled))
        notes = list[Note]()
        return HeightLayer(self.layer(file, bands, image, notes, heights=True), info, notes)

    def layer(
        self, file: RasterFile, bands: Bands, image: Grid | None, notes: list[Note], *, heights: bool = False
    ) -> Layer:
        """A layer on the grid of an image, or on its own; adds to the notes.

        Raises:
            Rejected: it does not fit.
        """
        grid = self._grid(file, notes)
        place = fit(file.path, grid, image or grid, self._rules(heights))
        notes += place.notes
        if image is None:
            self._require_crs(file, grid, notes)
        if place.doubt:
            self.doubt("low-coverage", place.doubt, file.path, notes)
        return Layer(file, bands, place)

    def _grid(self, file: RasterFile, notes: list[Note]) -> Grid:
        position = position_of(file, self.crs)
        notes += [*position.notes, *file.notes()]
        return Grid(file.header.height_px, file.header.width_px, position.transform, position.crs)

    def _require_crs(self, file: RasterFile, grid: Grid, notes: list[Note]) -> None:
        if grid.transform is not None and grid.crs is None:
            remedy = "set data.crs to that of its position, or add it with gdal_edit -a_srs"
            self.doubt("crs-missing", f"states no reference system; {remedy}", file.path, notes)

    def _rules(self, heights: bool) -> Rules:
        return Rules(self.max_pad_px, self.own, heights, self.base)

    def _dsm_dtypes(self, info: DsmInfo, scaled: bool) -> tuple[str, ...]:
        """Pixel types that heights may have: 8 bits only above the ground or with a scale."""
        whole = WHOLE_DTYPES if self.own or scaled else ()
        return ("float32", "float64", *whole, *(("uint8",) if info.relative_to == "ground" or scaled else ()))


def require_read_mask(file: RasterFile) -> None:
    """Refuse a file with a mask next to it that GDAL ignores.

    Raises:
        Rejected: the mask does not state that it is one.
    """
    if not isinstance(file.path, Path) or any(file.header.masks):
        return
    mask = file.path.with_name(f"{file.path.name}.msk")
    if mask.is_file():
        sentence = f"its mask {mask.name} does not state that it is one, so it would be ignored"
        remedy = f"add that with gdal_edit -mo INTERNAL_MASK_FLAGS_1=2 {mask.name}, or delete the mask"
        raise Rejected("mask-unread", f"{sentence}; {remedy}", file.path)
