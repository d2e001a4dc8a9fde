"""What check can find: one table of codes, and the record of one observation.

Severities:
    error     preprocess rejects it, or scores would be wrong; the pipeline stops
    warning   a suspicion or a loss that you should look at; the pipeline continues
    accepted  an error that you have accepted (`check.accept`); the pipeline continues
    repaired  preprocess repairs it, and the sentence states how
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from components.common.data.config import Accepted, how_to_accept

Severity = Literal["error", "warning", "accepted", "repaired"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "accepted", "repaired")
"""Worst first, the order of tables."""


@dataclass(frozen=True, slots=True)
class Code:
    """One thing that can be found."""

    severity: Severity
    about: str  # what it is, in a few words: the heading above its findings
    remedy: str  # what to do, in the imperative
    acceptable: bool = False  # whether `check.accept` can accept it; only errors of judgement


COPY, NOTHING = "copy or download the file again", "nothing"
CODES: dict[str, Code] = {
    # files
    "unreadable": Code("error", "file cannot be read to its end", COPY),
    "file-missing": Code("error", "tile lacks a file", "add the file, or remove the tile from the split"),
    "unpaired": Code(
        "warning",
        "tiles with one sensor alone",
        "add the file if it should be there; without it, the tile is used with its other sensor",
    ),
    "sensor-absent": Code(
        "warning",
        "subset without a sensor, or without a tile that has both",
        "add the files, or use a model of one sensor",
    ),
    "tile-missing": Code(
        "error", "tile of the chosen split has no files", "add its files, or remove the tile from the split"
    ),
    "split-incomplete": Code(
        "warning", "split cannot be used with these tiles", "add their files if you need this split"
    ),
    "found-twice": Code("warning", "two files for one layer", "remove the one that is not needed"),
    "unplaced": Code(
        "warning",
        "name fits an image and a label",
        "move it to a folder named after its layer, such as images or labels",
    ),
    "band-count": Code(
        "error",
        "other number of bands than expected",
        "put the right file in its place, or pick its bands with `bands` in dataset.yaml",
    ),
    "pixel-type": Code(
        "error", "other type of pixels than expected", "convert the file with gdal_translate -ot and the expected type"
    ),
    "mask-unread": Code(
        "error", "mask that GDAL ignores", "correct the mask with gdal_edit -mo INTERNAL_MASK_FLAGS_1=2, or delete it"
    ),
    "sparse": Code(
        "warning",
        "TIFF with blocks that were never written",
        "if they should hold data, write the file again with gdal_translate",
    ),
    # position
    "position-inexact": Code(
        "warning", "ground control points do not lie on a straight grid", "rectify the image with gdalwarp"
    ),
    "crs-unknown": Code(
        "error", "reference system that cannot be identified", "set data.crs, or correct the file with gdal_edit -a_srs"
    ),
    "crs-missing": Code("error", "no reference system", "set data.crs", acceptable=True),
    "crs-replaced": Code(
        "warning",
        "unidentified reference system replaced by the configured one",
        "check the configured one; gdal_edit -a_srs writes it into the file",
    ),
    "crs-matched": Code(
        "repaired",
        "reference system without a code, matched to a coded one",
        "nothing; gdal_edit -a_srs writes the code into the file",
    ),
    "crs-assumed": Code(
        "warning", "reference system of the image assumed", "check that the layer lies where the image does"
    ),
    "crs-differs": Code(
        "warning",
        "other reference system than the data set's",
        "correct data.crs or crs in dataset.yaml if it is wrong",
    ),
    "no-georeference": Code("warning", "position unknown", "add world files, or predicted maps have no position"),
    "grid-mismatch": Code(
        "error", "layer does not fit its image", "check that both files are of this tile, or correct their position"
    ),
    "low-coverage": Code(
        "error",
        "layer covers a small part of its image",
        "check that both files are of this tile and that data.crs is right",
        acceptable=True,
    ),
    "padded": Code("repaired", "layer is smaller than its image; padded at the edge", NOTHING),
    "partly-covered": Code(
        "warning", "layer covers a part of its image", "cut the tile to the layer, or leave the rest ignored"
    ),
    "grid-shift": Code(
        "warning", "layer lies a fraction of a pixel off its image", "resample it with gdalwarp if the shift is real"
    ),
    "warped": Code("repaired", "heights on another grid; warped to the image's", NOTHING),
    "label-warped": Code(
        "warning",
        "label on another grid; warped to the image's",
        "look at the label over the image, for example in QGIS",
    ),
    "gsd-differs": Code(
        "error",
        "pixels of another size than the data set's",
        "correct gsd_m in dataset.yaml, or resample the tile with gdalwarp -tr",
        acceptable=True,
    ),
    "off-place": Code("warning", "tile does not lie where its id puts it", "check its georeference and its name"),
    "size-odd": Code("warning", "size far from the other tiles'", "check that it is the file of this tile"),
    # images
    "image-constant": Code("error", "image of one value", COPY, acceptable=True),
    "image-blank": Code(
        "error",
        "no pixel that is not missing",
        "set image.nodata in dataset.yaml, or remove the tile from the split",
        acceptable=True,
    ),
    "image-alpha": Code(
        "warning",
        "alpha band that does not look like a mask hides pixels",
        "set image.nodata: [] in dataset.yaml if it is no mask, but for example near infrared",
    ),
    "image-missing": Code("repaired", "pixels without an image; their labels are ignored", NOTHING),
    "image-black": Code(
        "warning", "image has black regions", "if nothing was recorded there, set image.nodata: [0] in dataset.yaml"
    ),
    "image-range": Code("warning", "pixel values do not fit image.range", "correct image.range in dataset.yaml"),
    "image-is-label": Code("error", "image looks like a label picture", "put the image in its place", acceptable=True),
    "bands-swapped": Code("warning", "bands seem to be in another order", "correct image.bands in dataset.yaml"),
    # heights
    "dsm-blank": Code("error", "no height at all", "set dsm.nodata or dsm.unit_m in dataset.yaml", acceptable=True),
    "dsm-constant": Code("error", "one height everywhere", COPY, acceptable=True),
    "dsm-holes": Code("repaired", "heights missing; masked", NOTHING),
    "dsm-missing": Code(
        "error",
        "too many heights missing",
        "raise check.max_dsm_missing_share, or remove the tile from the split",
        acceptable=True,
    ),
    "dsm-nodata-found": Code(
        "warning", "value that repeats far from all other heights; masked", "set dsm.nodata in dataset.yaml"
    ),
    "dsm-outliers": Code("repaired", "heights far beyond all others; limited by the robust scaling", NOTHING),
    "dsm-saturated": Code(
        "warning", "heights at the largest value that the file can hold", "use a file with more bits per pixel"
    ),
    "dsm-units": Code(
        "warning", "heights seem to be in another unit", "correct dsm.unit_m (or dsm.scale) in dataset.yaml"
    ),
    "dsm-units-differ": Code(
        "error", "the file and dataset.yaml state different units", "remove dsm.unit_m from dataset.yaml"
    ),
    "unit-converted": Code("repaired", "heights converted to metres", NOTHING),
    "unit-replaced": Code(
        "warning",
        "unit stated by the file replaced by unit_m",
        "remove dsm.unit_m from dataset.yaml if the file is right",
    ),
    "scale-applied": Code(
        "repaired",
        "scale and offset applied",
        "nothing; `scale` and `offset` in dataset.yaml replace those of the file",
    ),
    "dsm-normalised": Code(
        "warning",
        "heights above ground where absolute ones are expected",
        "set dsm.relative_to: ground in dataset.yaml if they are above the ground",
    ),
    "dsm-absolute": Code(
        "warning",
        "absolute heights where heights above ground are expected",
        "set dsm.relative_to: datum in dataset.yaml if they are absolute",
    ),
    # labels
    "colours-snapped": Code("repaired", "colours close to a class's; given to the class", NOTHING),
    "label-missing": Code("repaired", "pixels without a label; ignored", NOTHING),
    "colours-unknown": Code(
        "warning",
        "few pixels of no class; ignored",
        "add the class, or list what means not labelled under label.ignore in dataset.yaml",
    ),
    "label-unknown": Code(
        "error",
        "many pixels of no class",
        "add the class, list what means not labelled under label.ignore in dataset.yaml, or raise "
        "preprocess.max_unknown_share",
        acceptable=True,
    ),
    "label-nodata": Code(
        "error", "nodata value of a label is also a class", "set label.nodata: [] in dataset.yaml, or remove the class"
    ),
    "label-hidden": Code(
        "error",
        "mask, colour table or alpha band marks a class as missing",
        "set label.nodata: [] in dataset.yaml, or remove the mask with gdal_translate -mask none",
        acceptable=True,
    ),
    "label-scaled": Code(
        "error",
        "label with a scale or an offset",
        "apply them with gdal_translate -unscale, or remove them with gdal_edit -scale 1 -offset 0",
        acceptable=True,
    ),
    "label-foreign": Code(
        "error",
        "label does not look like one",
        "put the label in its place, or correct the classes in dataset.yaml",
        acceptable=True,
    ),
    "label-blank": Code("error", "label without any class", "remove the tile from the split", acceptable=True),
    "label-constant": Code("warning", "label of one class", "check that it is the label of this tile"),
    "label-eroded": Code("warning", "full label without object boundaries", "put the full label in its place"),
    "eroded-full": Code("warning", "eroded label with object boundaries", "put the eroded label in its place"),
    "eroded-differs": Code(
        "error",
        "eroded label contradicts the full one",
        "check that both are of this tile, or raise check.max_disagreement_share",
        acceptable=True,
    ),
    "wrongly-annotated": Code(
        "warning", "reported as wrongly annotated", "look at it, or use the split official-minus-7_10"
    ),
    # the set as a whole
    "duplicate": Code("error", "same pixels in two tiles", "remove one of the two from the split", acceptable=True),
    "same-file": Code("error", "two tile ids for one file", "remove one of the two from the split"),
    "overlap": Code(
        "warning", "tiles of two subsets share a little ground", "move one of them to the other's subset if it matters"
    ),
    "overlap-large": Code(
        "error", "tiles of two subsets share ground", "move one of them to the other's subset", acceptable=True
    ),
    "class-shares": Code(
        "warning", "class shares far from the known ones", "check that the labels are those of the data set"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation."""

    code: str
    severity: Severity
    tile: str | None  # None: of the set as a whole
    file: str | None  # below the folder; None: of no single file
    sentence: str  # what is wrong and what to do; names neither tile nor file

    @property
    def line(self) -> str:
        """The finding for a place without columns."""
        where = self.file or (f"tile {self.tile}" if self.tile else None)
        return f"{where}: {self.sentence}" if where else self.sentence


def finding(code: str, observation: str, tile: str | None = None, file: str | None = None) -> Finding:
    """A finding with the severity and the remedy of its code."""
    remedy = "" if CODES[code].remedy == NOTHING else f"; {CODES[code].remedy}"
    accept = how_to_accept(code, tile) if CODES[code].acceptable else ""
    return Finding(code, CODES[code].severity, tile, file, f"{observation}{remedy}{accept}")


def accepted(one: Finding, accept: Accepted) -> Finding:
    """The finding with the severity `accepted`, if it is an error that you have accepted; else as it is."""
    if one.severity != "error" or not CODES[one.code].acceptable or not accept.covers(one.code, one.tile):
        return one
    return replace(one, severity="accepted", sentence=one.sentence.removesuffix(how_to_accept(one.code, one.tile)))
