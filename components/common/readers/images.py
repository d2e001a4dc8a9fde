"""Rows of an image: pixels as the file holds them, and as the store wants them (uint8, bands last).

`value = pixel * scale + offset`, and `range` of these values becomes 0..255, whatever the type of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.data.layerinfo import ImageInfo
from components.common.rasterfiles.rasters import Mask, Note, Pixels, Rejected
from components.common.readers.layers import Layer, Palette


@dataclass(frozen=True, slots=True)
class ImageRows:
    """Rows of an image."""

    pixels_BhW: Pixels  # as in the file, bands picked
    image_hWC: npt.NDArray[np.uint8]
    missing_hW: Mask | None  # True where there is no image; None: nowhere


class ImageLayer:
    """The image of a tile; it defines the grid, so it is never padded or warped."""

    def __init__(self, layer: Layer, info: ImageInfo, notes: list[Note]) -> None:
        """Wrap a layer."""
        self.layer, self.info, self.notes = layer, info, notes
        self.missing_px = 0
        header, numbers = layer.file.header, layer.bands.numbers
        if len(numbers) < len(info.bands):  # a palette
            numbers = numbers * len(info.bands)
        as_numbers = len(info.bands) == 1 and info.band_numbers is not None
        self.palette = None if as_numbers else layer.bands.palette
        self.scales = [header.scales[n - 1] if info.scale is None else info.scale for n in numbers]
        self.offsets = [header.offsets[n - 1] if info.offset is None else info.offset for n in numbers]
        dtype = np.dtype(header.dtypes[numbers[0] - 1])
        self._table = self._lookup(np.iinfo(dtype).max + 1) if dtype.name in ("uint8", "uint16") else None
        if any(scale != 1 for scale in self.scales) or any(self.offsets):
            sentence = (
                f"pixels are multiplied by {self.scales[0]:g} and {self.offsets[0]:g} is added, as "
                f"{'the file states' if info.scale is None and info.offset is None else 'dataset.yaml states'}; "
                "image.range is in these values"
            )
            notes.append(Note("scale-applied", sentence))

    @property
    def identical(self) -> bool:
        """Whether the pixels of the file are those of the store."""
        return self._table is not None and np.array_equal(self._table, [np.arange(256)] * len(self._table))

    def rows(self, rows: slice, columns: slice | None = None) -> ImageRows:
        """Rows of the image; of some columns, unless they are None."""
        if self.palette is None and self.identical:
            width = self.layer.fit.image.width_px if columns is None else columns.stop - columns.start
            image_hWC = np.empty((rows.stop - rows.start, width, len(self.info.bands)), np.uint8)
            pixels_BhW, missing_hW = self.layer.pixels(rows, columns, np.moveaxis(image_hWC, -1, 0))
        else:
            pixels_BhW, missing_hW = self.layer.pixels(rows, columns)
            if self.palette is not None:
                pixels_BhW, missing_hW = expanded(pixels_BhW[0], self.palette, len(self.info.bands), missing_hW)
            image_hWC, holes_hW = self._mapped(pixels_BhW)
            if holes_hW is not None:
                missing_hW = holes_hW if missing_hW is None else missing_hW | holes_hW
        if missing_hW is not None:
            self.missing_px += int(np.count_nonzero(missing_hW))
        return ImageRows(pixels_BhW, image_hWC, missing_hW)

    def finish(self) -> None:
        """Add the notes that need all pixels.

        Raises:
            Rejected: there is no image at all.
        """
        size, file = self.layer.fit.image.height_px * self.layer.fit.image.width_px, self.layer.file
        if self.missing_px == size:
            why = (
                "every pixel is marked as missing; set image.nodata in dataset.yaml, or remove the tile from the split"
            )
            raise Rejected("image-blank", why, file.path)
        if file.transparent_px and file.opaque_px < (size - file.transparent_px) / 2:
            what = f"its alpha band hides {100 * file.transparent_px / size:.3g} % and is partly transparent elsewhere"
            remedy = "set image.nodata: [] in dataset.yaml if it is no mask, but for example near infrared"
            self.notes.append(Note("image-alpha", f"{what}; {remedy}"))
        if self.missing_px:
            share = f"{self.missing_px:,} px ({100 * self.missing_px / size:.3g} %)"
            self.notes.append(Note("image-missing", f"{share} hold no image; their labels are ignored"))

    def values(self, pixels: npt.NDArray[np.floating], band: int) -> npt.NDArray[np.floating]:
        """Values of pixels, of any shape, of a band, counted from 0."""
        return pixels * self.scales[band] + self.offsets[band]

    def _mapped(self, pixels_BhW: Pixels) -> tuple[npt.NDArray[np.uint8], Mask | None]:
        """Pixels -> uint8, bands last, and where they are no numbers."""
        if self._table is not None:
            picked = zip(self._table, pixels_BhW, strict=True)
            return np.stack([table[band_hW] for table, band_hW in picked], axis=-1), None
        values_BhW = pixels_BhW.astype(np.float32)
        holes_hW: Mask = np.logical_or.reduce(~np.isfinite(values_BhW))
        values_BhW[:, holes_hW] = 0
        low, high = self.info.range
        for band_hW, scale, offset in zip(values_BhW, self.scales, self.offsets, strict=True):
            band_hW *= np.float32(scale)
            band_hW += np.float32(offset - low)
            band_hW /= np.float32(high - low)
            band_hW *= np.float32(255)
        image_hWC = np.moveaxis(np.rint(values_BhW).clip(0, 255).astype(np.uint8), 0, -1)
        return image_hWC, holes_hW if holes_hW.any() else None

    def _lookup(self, size: int) -> npt.NDArray[np.uint8]:
        """Result for each possible pixel, `[B, size]`."""
        low, high = self.info.range
        values = np.outer(self.scales, np.arange(size)) + np.array(self.offsets)[:, None]
        return np.rint((values - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)


def is_grey(palette: Palette) -> bool:
    """Whether all colours of a palette are shades of grey."""
    return all(red == green == blue for red, green, blue, _ in palette.values())


def expanded(
    index_hW: Pixels, palette: Palette, bands: int, missing_hW: Mask | None
) -> tuple[npt.NDArray[np.uint8], Mask | None]:
    """Colours of a paletted picture, `[bands, h, W]`; transparent entries of the palette are missing."""
    size = max(int(np.iinfo(index_hW.dtype).max) + 1, max(palette) + 1)
    table = np.zeros((size, 4), np.uint8)
    table[:, 3] = 255
    for index, colour in palette.items():
        table[index] = colour
    colours_hW4 = table[index_hW]
    transparent_hW = colours_hW4[..., 3] == 0
    if transparent_hW.any():
        missing_hW = transparent_hW if missing_hW is None else missing_hW | transparent_hW
    return np.moveaxis(colours_hW4[..., :bands], -1, 0), missing_hW
