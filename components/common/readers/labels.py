"""Rows of a label: colours or values decoded to classes 0..K-1, 255 = ignore; inexact and unknown pixels counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from components.common.data.datasets import IGNORE
from components.common.data.legend import Labels, Legend, Unknown, decode, unknown_sentence
from components.common.rasterfiles.grids import Fit, to_layer
from components.common.rasterfiles.rasters import Mask, Note, Pixels, Rejected
from components.common.readers.images import expanded
from components.common.readers.layers import Layer, Palette


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Rows of a label."""

    pixels_BhW: Pixels  # as in the file, palette expanded
    missing_hW: Mask | None  # True where the file holds nothing; None: nowhere
    y_hW: Labels  # classes 0..K-1, 255 = ignore
    snapped_px: int  # not exactly a colour of the legend
    unknown_px: int  # of no class
    unknown: Unknown | None  # the first of them, placed in the tile


class LabelLayer:
    """A label of a tile, full or eroded."""

    def __init__(self, layer: Layer, legend: Legend, notes: list[Note]) -> None:
        """Wrap a layer."""
        self.layer, self.legend, self.notes = layer, legend, notes
        self.palette = layer.bands.palette if legend.colours else None
        self.snapped_px = self.unknown_px = self.masked_px = 0
        self._hides = _hides(layer, self.palette)
        self._seen_px, self._hidden_px = np.zeros((2, IGNORE + 1), np.int64)  # by class: not missing, marked as missing
        self._example: Unknown | None = None

    def rows(self, rows: slice, hidden_hW: Mask | None = None) -> LabelRows:
        """Rows of the label.

        Args:
            rows: rows of the image.
            hidden_hW: where the image is missing: ignored; None: nowhere.
        """
        pixels_BhW, missing_hW = self.layer.pixels(rows)
        if self.palette is not None:
            pixels_BhW, missing_hW = expanded(pixels_BhW[0], self.palette, 3, missing_hW)
        decoded = decode(pixels_BhW, self.legend, missing_hW)
        unknown = decoded.unknown and replace(decoded.unknown, row=decoded.unknown.row + rows.start)
        self.snapped_px += decoded.snapped_px
        self.unknown_px += decoded.unknown_px
        if decoded.masked is not None:
            self.masked_px += int(np.count_nonzero(decoded.masked != IGNORE))
        if self._hides:
            self._seen_px += np.bincount(decoded.y_HW.ravel(), minlength=IGNORE + 1)
        if self._hides and decoded.masked is not None:
            marked = decoded.masked[_covered(self.layer.fit, rows)[missing_hW]]
            self._hidden_px += np.bincount(marked, minlength=IGNORE + 1)
        self._example = self._example or unknown
        if hidden_hW is not None:
            decoded.y_HW[hidden_hW] = IGNORE
        return LabelRows(pixels_BhW, missing_hW, decoded.y_HW, decoded.snapped_px, decoded.unknown_px, unknown)

    def finish(self) -> None:
        """Add the notes that need all pixels."""
        size = self.layer.fit.image.height_px * self.layer.fit.image.width_px
        for code, px, what in (
            ("label-missing", self.masked_px, "are marked as missing, or not covered; ignored"),
            ("colours-snapped", self.snapped_px, "are not exactly of a class's colour; given to the nearest"),
        ):
            if px:
                self.notes.append(Note(code, f"{px:,} px ({100 * px / size:.3g} %) {what}"))

    def require_unscaled(self) -> None:
        """Refuse a label whose values are, as the file states, not the numbers that it holds.

        Raises:
            Rejected: it is such a label.
        """
        file, band = self.layer.file, self.layer.bands.numbers[0] - 1
        scale, offset = file.header.scales[band], file.header.offsets[band]
        if (scale, offset) != (1, 0):
            sentence = (
                f"states that its values are pixel * {scale:g} + {offset:g}, which is not applied to labels; apply it "
                "with gdal_translate -unscale OLD.tif NEW.tif, or remove it with gdal_edit -scale 1 -offset 0 OLD.tif"
            )
            raise Rejected("label-scaled", sentence, file.path)

    def require_seen(self, kind: str, names: Sequence[str]) -> None:
        """After all rows were read: refuse a label whose missing pixels are mostly all that there is of some classes.

        Args:
            kind: label or eroded, for the message.
            names: of the classes.

        Raises:
            Rejected: it is such a label.
        """
        lost = [label for label in range(len(names)) if self._hidden_px[label] and not self._seen_px[label]]
        lost_px, size = int(self._hidden_px[lost].sum()), int(self._seen_px.sum())
        if 2 * lost_px <= self._hidden_px.sum():
            return
        what = (
            f"class{'es' * (len(lost) > 1)} {', '.join(names[label] for label in lost)} ({100 * lost_px / size:.3g} %)"
        )
        remedy = f"set {kind}.nodata: [] in dataset.yaml"
        if self._hides == "mask":
            remedy = "remove it: gdal_translate -mask none OLD.tif NEW.tif"
        sentence = f"its {self._hides} marks every pixel of the {what} as missing; if that is wrong, {remedy}"
        raise Rejected("label-hidden", sentence, self.layer.file.path)

    def require_known(self, max_unknown_share: float) -> None:
        """After all rows were read: refuse a label with many pixels of no class, note few.

        Args:
            max_unknown_share: share of unknown pixels that is tolerated, 0..1.

        Raises:
            Rejected: more pixels are of no class.
        """
        if self._example is None:
            return
        size = self.layer.fit.image.height_px * self.layer.fit.image.width_px
        sentence = unknown_sentence(self.unknown_px, size, self._example)
        if self.unknown_px > max_unknown_share * size:
            sentence += (
                f"; at most {100 * max_unknown_share:.3g} % are ignored: list what means not labelled under "
                "label.ignore in dataset.yaml, add the class, or raise preprocess.max_unknown_share"
            )
            raise Rejected("label-unknown", sentence, self.layer.file.path)
        sentence += "; ignored: add the class, or list them under label.ignore in dataset.yaml"
        self.notes.append(Note("colours-unknown", sentence))


def _hides(layer: Layer, palette: Palette | None) -> str | None:
    """What of a label file can mark pixels of a class as missing; None: nothing."""
    if any(layer.file.header.masks[number - 1] for number in layer.bands.numbers):
        return "mask"
    if palette and any(colour[3] == 0 for colour in palette.values()):
        return "colour table"
    return "alpha band" if layer.bands.alpha else None


def _covered(place: Fit, rows: slice) -> Mask:
    """Which pixels of rows of the image surely lie on the label."""
    y, x = np.mgrid[rows, : place.image.width_px] + 0.5
    edge = 0
    if place.offset is None:
        x, y = (axis.reshape(y.shape) for axis in to_layer(place.image, place.layer, x.ravel(), y.ravel()))
        edge = 1  # the warper rounds in its own way
    else:
        x, y = x + place.offset[1], y + place.offset[0]
    inside_x, inside_y = (x > edge) & (x < place.layer.width_px - edge), (y > edge) & (y < place.layer.height_px - edge)
    return np.asarray(inside_x & inside_y)


def contradiction(nodata: tuple[float | None, ...], legend: Legend, names: tuple[str, ...]) -> str | None:
    """Name of the class that a nodata value of the file stands for; None: it stands for none."""
    known: tuple[tuple[int, ...], ...] = legend.colours or tuple((value,) for value in legend.values)
    marks = nodata * len(known[0]) if len(nodata) == 1 else nodata
    for name, code in zip(names, known, strict=True):
        if all(mark in (None, value) for mark, value in zip(marks, code, strict=True)):
            return name
    return None
