"""Which file is which: files of a known data set are recognised by name, in any folder or archive.

In: names as the user has them (any case, `2_10` or `02_10`, any Unicode form). Out: tile, kind and path below the raw
folder. In Vaihingen an image and its label have the same name. The names of the folders above decide, the nearest
first. If none of them helps, both places are returned, and the pixels decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.common.data import datasets
from components.common.data.datasets import KINDS, Dataset, FileKind

IMAGE_WORDS = {"top", "image", "images", "ortho", "orthophoto", "rgb", "irrg", "rgbir"}
LABEL_WORDS = {"gt", "gts", "truth", "label", "labels", "mask", "masks", "annotation", "annotations"}

SPELLINGS = {".tiff": ".tif", ".jpeg": ".jpg"}


def nfc(name: str) -> str:
    """A name in Unicode NFC, the form of all names in data/raw. macOS writes `ü` as `u` and two dots (NFD)."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file belongs."""

    tile: str
    kind: FileKind
    path: str  # below the raw folder


class Names:
    """The files of one data set, by name."""

    def __init__(self, dataset: Dataset) -> None:
        """List the names of all files in the data set's splits, for the chosen variants."""
        self._places: dict[str, list[Place]] = {}
        for tile in datasets.tiles(dataset.name):
            for kind in KINDS:
                if path := dataset.path(kind, tile):
                    self._places.setdefault(_key(path), []).append(Place(tile, kind, path))

    def places(self, found: str) -> tuple[Place, ...]:
        """Places to which a file found at `found` may belong: none, one, or several if the name is ambiguous."""
        return tuple(self._places.get(_key(found), ()))

    def place(self, found: str) -> Place | None:
        """The one place of a file, by its name and the folders above it; None if none or several are possible."""
        places = self.places(found)
        if len(places) > 1:
            labels = hinted(found)
            places = tuple(place for place in places if (place.kind in ("label", "eroded")) is labels)
        return places[0] if len(places) == 1 else None

    def examples(self) -> Iterator[str]:
        """One name of each kind, for messages."""
        seen: set[FileKind] = set()
        for place in (place for places in self._places.values() for place in places):
            if place.kind not in seen:
                seen.add(place.kind)
                yield PurePosixPath(place.path).name


def hinted(found: str) -> bool | None:
    """Whether the folders and archives above a file are named after labels; None: after neither kind, or after both.

    The nearest folder with such a word decides: `..._semantic_labeling_Vaihingen.zip/top/` holds images.
    """
    for folder in reversed(PurePosixPath(found).parts[:-1]):
        words = set(re.findall(r"[a-z]+", folder.lower()))
        if bool(words & IMAGE_WORDS) != bool(words & LABEL_WORDS):
            return bool(words & LABEL_WORDS)
    return None


def stem_key(found: str) -> str:
    """The same text for all spellings of a raster's name and of its world file's name."""
    return PurePosixPath(_key(found)).stem


def _key(path: str) -> str:
    """The same text for all spellings of a name: NFC, lower case, no leading zeros, one suffix per format."""
    name = PurePosixPath(re.sub(r"(?<![0-9])0+(?=[0-9])", "", PurePosixPath(nfc(path)).name.lower()))
    return str(name.with_suffix(SPELLINGS.get(name.suffix, name.suffix)))
