"""`source: isprs`: what a user downloaded, in any arrangement -> the same files, in their places below data/raw."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from components.acquire.archives import walk
from components.acquire.names import Names
from components.common import isprs
from components.common.errors import DataError
from components.common.progress import track

log = logging.getLogger(__name__)


def collect(source: Path, dataset: isprs.Dataset, folder: Path) -> tuple[str, ...]:
    """Link, copy or unpack every file of the data set into a folder.

    Args:
        source: a folder or a .zip, also a zip of zips.
        dataset: whose names to look for.
        folder: gets the files at `dataset.path(kind, tile)`, and world files beside them.

    Returns:
        Ids of the tiles of which there is an image.

    Raises:
        DataError: there is no file of the data set, or an archive cannot be read or trusted.
    """
    names, taken = Names(dataset), dict[str, str]()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as scratch:
        for found in track(walk(source, Path(scratch)), "collecting files"):
            place = names.place(found.name)
            if place is None:
                continue
            if place in taken:
                log.warning("%s is left out: %s was taken for the same file", found.name, taken[place])
                continue
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            found.save(target)
            taken[place] = found.name
    if not any(place.endswith(".tif") for place in taken):
        raise DataError(
            f"{source}: holds no file of {dataset.name}; looked for names like {', '.join(names.examples())}"
        )
    everything = isprs.split(dataset.name, "official").tiles
    tiles = tuple(tile for tile in everything if dataset.path("image", tile) in taken)
    log.info("found %d files; images of %d of the %d tiles", len(taken), len(tiles), len(everything))
    return tiles
