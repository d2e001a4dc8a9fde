"""Which file is which: ISPRS files are known by their name, whatever folder or archive they lie in.

In: names as a user has them (any case, `2_10` or `02_10`). Out: the place of the file below the raw folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from components.common import isprs

KINDS: tuple[isprs.FileKind, ...] = ("image", "dsm", "label", "eroded")
LABEL_HINTS = ("gts", "ground_truth", "label")
"""In Vaihingen an image and its label have one name: such a word in a folder or archive above it means the label."""


class Names:
    """The files of one data set, by name."""

    def __init__(self, dataset: isprs.Dataset) -> None:
        """List every name that the data set has."""
        self._places: dict[str, list[tuple[isprs.FileKind, str]]] = {}
        for tile in isprs.split(dataset.name, "official").tiles:
            for kind in KINDS:
                path = dataset.path(kind, tile)
                self._places.setdefault(_key(path), []).append((kind, path))

    def place(self, found: str) -> str | None:
        """Path below the raw folder of a file found at `found`, or None if it is none of the data set's.

        A world file (.tfw) goes beside the TIFF of the same name.
        """
        path = PurePosixPath(found)
        world = path.suffix.lower() == ".tfw"
        places = self._places.get(_key(str(path.with_suffix(".tif")) if world else found))
        if not places:
            return None
        above = "/".join(path.parts[:-1]).lower()
        hinted = any(word in above for word in LABEL_HINTS)
        chosen = next((place for kind, place in places if (kind in ("label", "eroded")) == hinted), places[0][1])
        return str(PurePosixPath(chosen).with_suffix(".tfw")) if world else chosen

    def examples(self) -> Iterator[str]:
        """One name of each kind, for messages."""
        seen: set[isprs.FileKind] = set()
        for places in self._places.values():
            for kind, place in places:
                if kind not in seen:
                    seen.add(kind)
                    yield PurePosixPath(place).name


def _key(path: str) -> str:
    """What two spellings of a file's name share: lower case, numbers without leading zeros."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", PurePosixPath(path).name.lower())
