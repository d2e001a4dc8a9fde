"""What is known of a tile once its files have been read: plain numbers, the same however they were read.

Letters: K classes, C bands. Shares are 0..1, heights metres. A figure that cannot be had is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.common.data.datasets import FileKind


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The header of one file."""

    path: str  # below the folder
    width_px: int
    height_px: int
    bands: int
    dtype: str
    nodata: float | None
    crs: str | None  # None: the file carries none
    transform: tuple[float, ...] | None  # a..f of pixel -> map; None: neither file nor world file has one
    colours: tuple[str, ...]  # what the file says of its bands: red, green, blue, gray, alpha, undefined...

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Width and height of a pixel, in units of the map."""
        if self.transform is None:
            return None
        a, b, _, d, e, _ = self.transform
        return (a * a + d * d) ** 0.5, (b * b + e * e) ** 0.5


@dataclass(frozen=True, slots=True)
class Pixels:
    """What holds for the pixels of any file."""

    sha256: str  # of type, size and pixels: a copy saved anew has the same
    missing_share: float  # marked as nodata, or NaN
    lowest: float | None  # of the pixels that are not missing
    highest: float | None

    @property
    def constant(self) -> bool:
        """Whether all pixels that are there have one value."""
        return self.lowest == self.highest


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The image of a tile."""

    black_share: float  # all bands 0, not marked as missing
    outside_share: float  # values beyond the data set's range; 0 in 8 bits, which are taken as they are
    corner_share: float  # pixels whose every band is 0 or the largest value, as in a label picture
    class_means: tuple[tuple[float, ...] | None, ...]  # [K][C] mean value per class; None: the class has no pixel


@dataclass(frozen=True, slots=True)
class DsmFacts:
    """The heights of a tile."""

    low_m: float | None  # 0.1 % of the heights lie below
    high_m: float | None  # 0.1 % of the heights lie above
    quarter_m: float | None  # 25 % of the heights lie below
    median_m: float | None
    implausible_share: float  # neither missing nor a height on Earth: counts as missing in preprocess
    outlier_px: int  # beyond the robust range by more than its own width
    saturated_share: float  # at the largest value of an integer type
    class_medians_m: tuple[float | None, ...]  # [K] median height per class; None: the class has no measured pixel


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """A label picture, full or eroded."""

    class_px: tuple[int, ...]  # [K]
    ignored_px: int  # of no class, black or unknown
    snapped_px: int
    unknown_px: int
    unknown: str | None  # one unknown pixel in words
    foreign_px: int  # nowhere near a colour or value of the legend
    compared_px: int = 0  # eroded label: pixels that have a class in it and in the full label
    differing_px: int = 0  # eroded label: those of them with another class
    boundary_px: int = 0  # pixels next to another class: an eroded label has none

    @property
    def all_px(self) -> int:
        """Pixels of the picture."""
        return sum(self.class_px) + self.ignored_px


@dataclass(frozen=True, slots=True)
class Trouble:
    """A finding made while a file was read."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class TileFacts:
    """Everything that reading a tile's files has told."""

    tile: str
    files: Mapping[FileKind, FileFacts] = field(default_factory=dict)  # those that could be opened
    pixels: Mapping[FileKind, Pixels] = field(default_factory=dict)  # those that could be read to the end
    places: Mapping[FileKind, str] = field(default_factory=dict)  # those that are there: path below the folder
    image: ImageFacts | None = None
    dsm: DsmFacts | None = None
    label: LabelFacts | None = None
    eroded: LabelFacts | None = None
    troubles: Mapping[FileKind, tuple[Trouble, ...]] = field(default_factory=dict)
