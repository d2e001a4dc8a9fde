"""What the check can find: one table of codes, each with its severity, and the record of one observation.

mended   preprocess repairs it, and the sentence says how
warning  a suspicion or a loss that a person should look at; everything goes on
error    preprocess would refuse it, or the figures would be wrong; the pipeline stops
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["mended", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "mended")
"""Worst first, the order of tables."""


@dataclass(frozen=True, slots=True)
class Code:
    """One thing that can be found."""

    severity: Severity
    about: str  # what it is, in a few words: the heading above its findings


CODES: dict[str, Code] = {
    # files
    "unreadable": Code("error", "file cannot be read to its end"),
    "file-missing": Code("error", "tile lacks a file"),
    "tile-missing": Code("error", "tile of the chosen split is not there"),
    "split-incomplete": Code("warning", "split cannot be used with these tiles"),
    "found-twice": Code("warning", "two files for one place"),
    "unplaced": Code("warning", "image or label, the name does not say"),
    "band-count": Code("error", "other number of bands"),
    "pixel-type": Code("error", "other type of pixels"),
    # where things lie
    "padded": Code("mended", "layer lacks an edge, which is padded"),
    "warped": Code("mended", "heights on another grid; warped to the image's"),
    "label-warped": Code("warning", "label on another grid; warped to the image's"),
    "grid-mismatch": Code("error", "layer does not fit its image"),
    "no-georeference": Code("warning", "nothing says where the tile lies"),
    "crs-missing": Code("error", "no reference system"),
    "crs-differs": Code("warning", "other reference system than the data set's"),
    "gsd-differs": Code("error", "pixels of another size than the data set's"),
    "off-place": Code("warning", "tile lies elsewhere than its id says"),
    "size-odd": Code("warning", "size far from the other tiles'"),
    # images
    "image-constant": Code("error", "image of one value"),
    "image-missing": Code("mended", "image has pixels marked as missing; their labels are ignored"),
    "image-black": Code("warning", "image has black regions"),
    "image-range": Code("warning", "pixel values beyond the data set's range"),
    "image-is-label": Code("error", "image looks like a label picture"),
    "bands-swapped": Code("warning", "bands seem to be in another order"),
    # heights
    "dsm-blank": Code("error", "no height at all"),
    "dsm-constant": Code("error", "one height everywhere"),
    "dsm-holes": Code("mended", "heights missing; masked"),
    "dsm-missing": Code("error", "too many heights missing"),
    "dsm-outliers": Code("mended", "heights far beyond all others; limited by the robust scaling"),
    "dsm-saturated": Code("warning", "heights at the largest value that the file can hold"),
    "dsm-units": Code("warning", "heights seem to be in another unit"),
    "dsm-normalised": Code("warning", "heights above ground where absolute ones are expected"),
    "dsm-absolute": Code("warning", "absolute heights where heights above ground are expected"),
    # labels
    "colours-snapped": Code("mended", "colours next to a class's; given to the class"),
    "colours-unknown": Code("warning", "pixels of no class; ignored"),
    "label-foreign": Code("error", "label does not follow the data set's legend"),
    "label-blank": Code("error", "label without any class"),
    "label-constant": Code("warning", "label of one class"),
    "label-eroded": Code("warning", "full label without object boundaries"),
    "eroded-full": Code("warning", "eroded label with object boundaries"),
    "eroded-differs": Code("error", "eroded label contradicts the full one"),
    "wrongly-annotated": Code("warning", "reported as wrongly annotated"),
    # the set as a whole
    "duplicate": Code("error", "same pixels under two names"),
    "same-file": Code("error", "two tile ids for one file"),
    "overlap": Code("warning", "tiles of two subsets touch the same ground"),
    "overlap-large": Code("error", "tiles of two subsets share ground"),
    "class-shares": Code("warning", "class shares far from the known ones"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation."""

    code: str
    severity: Severity
    tile: str | None  # None: of the set as a whole
    file: str | None  # below the folder; None: of no single file
    sentence: str  # what is seen, and what it means or what to do; names neither tile nor file

    @property
    def line(self) -> str:
        """The finding for a place without columns."""
        where = self.file or (f"tile {self.tile}" if self.tile else None)
        return f"{where}: {self.sentence}" if where else self.sentence


def finding(code: str, sentence: str, tile: str | None = None, file: str | None = None) -> Finding:
    """A finding with the severity that its code has."""
    return Finding(code, CODES[code].severity, tile, file, sentence)
