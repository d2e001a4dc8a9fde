"""Raw tiles of a data set as one raster: what the stage `predict` of dvc.yaml maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.common.data import datasets
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.errors import DataError, ParamsError
from components.predict.config import PredictRequest


def request_for(raw: Path, split: str, tiles: Sequence[str] | None, model: Path, maps: Path) -> PredictRequest:
    """A request for a map of raw tiles, `MAPS/DATASET.tif`, with everything that a map can have but probabilities.

    Args:
        raw: folder of the acquire step.
        split: a split of its data set.
        tiles: ids of the tiles to map; None: the test tiles of the split.
        model: the model.
        maps: folder of the map.

    Raises:
        DataError: a tile has no image or no heights.
        ParamsError: a tile is not in the data set, or the data set has no split of this name.
    """
    tree = read_raw_tree(raw)
    wanted = datasets.split(tree.dataset.name, split).test if tiles is None else tuple(tiles)
    if unknown := [tile for tile in wanted if tile not in tree.tiles]:
        raise ParamsError(
            f"predict.tiles: {raw} has no tile {', '.join(unknown)}; expected some of {', '.join(tree.tiles)}, or null"
        )
    name = f"{tree.dataset.name}.tif"
    return PredictRequest(
        model=str(model),
        image=_files(tree, wanted, "image"),
        dsm=_files(tree, wanted, "dsm"),
        layers=(tree.dataset.image, tree.dataset.dsm),
        crs=tree.dataset.crs,
        output=maps / name,
        extras=frozenset({"confidence", "sensors"}),
        restart="if changed",  # DVC runs the stage again with another model
        summary=(maps / name).with_suffix(".json"),
    )


def _files(tree: RawTree, tiles: Sequence[str], kind: datasets.FileKind) -> tuple[str, ...]:
    """The files of one kind, each once: a mosaic can hold the heights of all tiles."""
    found = {tile: tree.file(tile, kind) for tile in tiles}
    if missing := [tile for tile, path in found.items() if path is None]:
        raise DataError(f"{tree.folder}: the tile {missing[0]} has no {kind}; run the acquire step again")
    return tuple(dict.fromkeys(str(path) for path in found.values()))
