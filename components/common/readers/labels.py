"""Rows of a label: colours or values decoded to classes 0..K-1, 255 = ignore; inexact and unknown pixels counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from components.common.data.datasets import IGNORE
from components.common.data.labels import Labels, Legend, Unknown, decode, unknown_sentence
from components.common.readers.images import expanded
from components.common.readers.layers import Layer
from components.common.readers.rasters import Mask, Note, Pixels, Rejected


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
        self.palette = layer.file.header.palette if legend.colours else None
        self.snapped_px = self.unknown_px = self.masked_px = 0
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
        self.masked_px += decoded.masked_px
        self._example = self._example or unknown
        if hidden_hW is not None:
            decoded.y_HW[hidden_hW] = IGNORE
        return LabelRows(pixels_BhW, missing_hW, decoded.y_HW, decoded.snapped_px, decoded.unknown_px, unknown)

    def finish(self, max_unknown_share: float) -> None:
        """Add the notes that need all pixels.

        Args:
            max_unknown_share: share of unknown pixels that is tolerated, 0..1.

        Raises:
            Rejected: more pixels are of no class.
        """
        size = self.layer.fit.image.height_px * self.layer.fit.image.width_px
        for code, px, what in (
            ("label-missing", self.masked_px, "are marked as missing, or not covered; ignored"),
            ("colours-snapped", self.snapped_px, "are not exactly of a class's colour; given to the nearest"),
        ):
            if px:
                self.notes.append(Note(code, f"{px:,} px ({100 * px / size:.3g} %) {what}"))
        if self._example is None:
            return
        sentence = unknown_sentence(self.unknown_px, size, self._example)
        if self.unknown_px > max_unknown_share * size:
            sentence += (
                f"; at most {100 * max_unknown_share:.3g} % are ignored: list what means not labelled under "
                "label.ignore in dataset.yaml, add the class, or raise preprocess.max_unknown_share"
            )
            raise Rejected("label-unknown", sentence, self.layer.file.path)
        sentence += "; ignored: add the class, or list them under label.ignore in dataset.yaml"
        self.notes.append(Note("colours-unknown", sentence))


def contradiction(nodata: tuple[float, ...], legend: Legend, names: tuple[str, ...]) -> str | None:
    """Name of the class that a nodata value of the file stands for; None: it stands for none."""
    known: tuple[tuple[int, ...], ...] = legend.colours or tuple((value,) for value in legend.values)
    marks = nodata * len(known[0]) if len(nodata) == 1 else nodata
    return next((name for name, code in zip(names, known, strict=True) if tuple(code) == tuple(marks)), None)
