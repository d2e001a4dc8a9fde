"""Which file is which: files of a data set are known by their name, whatever folder or archive they lie in.

In: names as a user has them (any case, `2_10` or `02_10`). Out: tile, kind and the place of the file below the raw
folder. In Vaihingen an image and its label have one name: the words of the folders above decide, the nearest first;
where no word helps, both places are handed back and the pixels must decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.common.data import datasets
from components.common.data.datasets import KINDS, Dataset, FileKind

IMAGE_WORDS = {"top", "image", "images", "ortho", "orthophoto", "rgb", "irrg", "rgbir"}
LABEL_WORDS = {"gt", "gts", "truth", "label", "labels", "mask", "masks", "annotation", "annotations"}

SPELLINGS = {".tiff": ".tif", ".jpeg": ".jpg"}
WORLD_SUFFIXES = (".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".wld")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file belongs."""

    tile: str
    kind: FileKind
    path: str  # below the raw folder


class Names:
    """The files of one data set, by name."""

    def __init__(self, dataset: Dataset) -> None:
        """List every name that the tiles of the data set's splits have, in the variants chosen."""
        self._places: dict[str, list[Place]] = {}
        for tile in datasets.tiles(dataset.name):
            for kind in KINDS:
                if path := dataset.path(kind, tile):
                    self._places.setdefault(_key(path), []).append(Place(tile, kind, path))

    def places(self, found: str) -> tuple[Place, ...]:
        """Where a file found at `found` may belong: nowhere, at one place, or at several if its name says no more."""
        return tuple(self._places.get(_key(found), ()))

    def place(self, found: str) -> Place | None:
        """The one place of a file, by its name and the words above it; None if that leaves none or several."""
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
    """Whether the words of the folders and archives above a file speak of labels; None: of nothing, or of both.

    The nearest folder that speaks decides: `..._semantic_labeling_Vaihingen.zip/top/` holds images.
    """
    for folder in reversed(PurePosixPath(found).parts[:-1]):
        words = set(re.findall(r"[a-z]+", folder.lower()))
        if bool(words & IMAGE_WORDS) != bool(words & LABEL_WORDS):
            return bool(words & LABEL_WORDS)
    return None


def is_world_file(found: str) -> bool:
    """Whether a name is that of a world file, which holds the georeference of a picture of the same stem."""
    return PurePosixPath(found).suffix.lower() in WORLD_SUFFIXES


def stem_key(found: str) -> str:
    """What the spellings of a picture's name and of its world file's name share."""
    return PurePosixPath(_key(found)).stem


def _key(path: str) -> str:
    """What two spellings of a file's name share: lower case, numbers without leading zeros, one suffix per format."""
    name = PurePosixPath(re.sub(r"(?<![0-9])0+(?=[0-9])", "", PurePosixPath(path).name.lower()))
    return str(name.with_suffix(SPELLINGS.get(name.suffix, name.suffix)))
