"""Raw tiles of a data set as one raster: what the stage `predict` of dvc.yaml maps.

A tile without a DSM is mapped from its image alone. One without an image is mapped from its DSM alone, as far as the
rectangle around the images of the other tiles covers it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from components.common.data import datasets
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.errors import DataError, ParamsError
from components.predict.config import PredictRequest

log = logging.getLogger(__name__)


def request_for(raw: Path, split: str, tiles: Sequence[str] | None, model: Path, maps: Path) -> PredictRequest:
    """A request for a map of raw tiles, `MAPS/DATASET.tif`, with everything that a map can have but probabilities.

    Args:
        raw: folder of the acquire step.
        split: a split of its data set.
        tiles: ids of the tiles to map; None: the test tiles of the split.
        model: the model.
        maps: folder of the map.

    Raises:
        DataError: a tile has neither an image nor heights.
        ParamsError: a tile is not in the data set, or the data set has no split of this name.
    """
    tree = read_raw_tree(raw)
    wanted = datasets.split(tree.dataset.name, split).test if tiles is None else tuple(tiles)
    if unknown := [tile for tile in wanted if tile not in tree.tiles]:
        raise ParamsError(
            f"predict.tiles: {raw} has no tile {', '.join(unknown)}; expected some of {', '.join(tree.tiles)}, or null"
        )
    if gone := [tile for tile in wanted if not tree.sensors(tile)]:
        raise DataError(f"{tree.folder}: the tile {gone[0]} has neither an image nor a DSM; run the acquire step again")
    image, dsm = _files(tree, wanted, "image"), _files(tree, wanted, "dsm")
    if blind := [tile for tile in wanted if tree.sensors(tile) == ("dsm",)]:
        if image:
            log.warning("mapped only within the rectangle of the other images: %s (no image)", ", ".join(blind))
    name = f"{tree.dataset.name}.tif"
    return PredictRequest(
        model=str(model),
        image=image,
        dsm=dsm,
        layers=(tree.dataset.image, tree.dataset.dsm),
        crs=tree.dataset.crs,
        output=maps / name,
        extras=frozenset({"confidence", "sensors"}),
        restart="if changed",  # DVC runs the stage again with another model
        summary=(maps / name).with_suffix(".json"),
    )


def _files(tree: RawTree, tiles: Sequence[str], kind: datasets.FileKind) -> tuple[str, ...]:
    """The files of one kind, each once: a mosaic can hold the heights of all tiles. A tile may have none."""
    found = (tree.file(tile, kind) for tile in tiles)
    return tuple(dict.fromkeys(str(path) for path in found if path is not None))
