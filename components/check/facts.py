"""What is known of a tile after its files were read: plain numbers on its grid, the image's or else the DSM's.

Letters: K classes, C bands. Shares are 0..1, heights metres. A figure that does not exist is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.common.data.datasets import FileKind
from components.common.rasterfiles.grids import Grid


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The header of a file that the reader accepts."""

    path: str  # below the folder
    grid: Grid  # of the file, its position and reference system resolved
    bands: int
    dtype: str  # of the bands that are read
    nodata: float | None  # of the first band that is read
    colours: tuple[str, ...]  # what the file calls the bands that are read: red, green, blue, gray, undefined...


@dataclass(frozen=True, slots=True)
class Pixels:
    """What holds for the pixels of any layer."""

    sha256: str  # of type, size and pixels: a copy in another encoding has the same
    missing_share: float  # hidden, nodata, not measured, or not covered by the file
    lowest: float | None  # of the pixels that are not missing: of the file; heights: metres
    highest: float | None

    @property
    def constant(self) -> bool:
        """Whether all pixels that are not missing have one value."""
        return self.lowest == self.highest


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The image of a tile."""

    black_share: float  # all bands 0, not missing
    lowest: float | None  # value after scale and offset, as `image.range` counts
    highest: float | None
    outside_share: float  # values beyond `image.range`
    corner_share: float  # pixels whose every band is 0 or the largest value, as in a label picture
    class_means: tuple[tuple[float, ...] | None, ...]  # [K][C] mean value per class; None: the class has no pixel


@dataclass(frozen=True, slots=True)
class DsmFacts:
    """The heights of a tile."""

    low_m: float | None  # 0.1 % of the heights lie below
    high_m: float | None  # 0.1 % of the heights lie above
    quarter_m: float | None  # 25 % of the heights lie below
    median_m: float | None
    outlier_px: int  # beyond the robust range by more than its own width
    top_m: float | None  # height at the largest value of an integer type
    saturated_share: float  # heights of that value
    class_medians_m: tuple[float | None, ...]  # [K] median height per class; None: the class has no measured pixel


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """A label, full or eroded."""

    class_px: tuple[int, ...]  # [K]
    ignored_px: int  # of no class, not labelled, or without an image
    snapped_px: int  # not exactly a colour of the legend
    unknown_px: int  # of no class
    foreign_px: int  # with a colour that neither a class nor its distortion has
    compared_px: int = 0  # eroded label: pixels that have a class in it and in the full label
    differing_px: int = 0  # eroded label: those of them with another class
    boundary_px: int = 0  # pixels next to another class: an eroded label has none

    @property
    def all_px(self) -> int:
        """Pixels of the tile."""
        return sum(self.class_px) + self.ignored_px


@dataclass(frozen=True, slots=True)
class Reported:
    """What the reader reports about a layer."""

    code: str
    sentence: str
    file: str  # below the folder: the layer's file or one of its sidecars
    rejected: bool  # whether the layer cannot be used


@dataclass(frozen=True, slots=True)
class TileFacts:
    """Everything that was learnt by reading a tile's files."""

    tile: str
    places: Mapping[FileKind, str] = field(default_factory=dict)  # files that exist: path below the folder
    files: Mapping[FileKind, FileFacts] = field(default_factory=dict)  # those that the reader accepts
    pixels: Mapping[FileKind, Pixels] = field(default_factory=dict)  # those that were read to the end
    image: ImageFacts | None = None
    dsm: DsmFacts | None = None
    label: LabelFacts | None = None
    eroded: LabelFacts | None = None
    reported: Mapping[FileKind, tuple[Reported, ...]] = field(default_factory=dict)

    def rejected(self, kind: FileKind) -> bool:
        """Whether the reader rejects a layer."""
        return any(one.rejected for one in self.reported.get(kind, ()))

    @property
    def base(self) -> FileKind:
        """The layer whose grid is the tile's: the image, or the DSM if there is no image."""
        return "image" if "image" in self.places else "dsm"

    @property
    def grid(self) -> Grid | None:
        """Grid of the tile; None: the layer that gives it cannot be opened."""
        return self.files[self.base].grid if self.base in self.files else None

    @property
    def base_file(self) -> str:
        """Path of the layer that gives the grid, below the folder; the tile has a grid."""
        return self.places[self.base]
