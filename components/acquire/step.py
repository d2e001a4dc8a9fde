"""The step `acquire`: generated city, ISPRS files or the user's own files -> data/raw, with `dataset.json`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from rasterio.crs import CRS

from components.acquire.import_summary import summary
from components.acquire.isprs_files import collect
from components.acquire.own_files import collect_own
from components.acquire.remote import on_this_machine
from components.acquire.sample.city import MOST_TILES, sample_tiles, write_city
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.datasets import Dataset, Split
from components.common.data.rawtree import RawTree
from components.common.errors import DataError, ParamsError
from components.common.files import replacing_folder
from components.common.params import STRICT, Seed
from components.common.rasterfiles.position import parse_crs, same_crs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class SampleConfig:
    """Section `sample` of params.yaml: the generated city."""

    seed: Seed  # each seed gives another city
    side_px: Annotated[int, Field(ge=256, le=6000)]  # side of a tile, pixels of 5 cm
    tiles: Annotated[int, Field(ge=10, le=25)] = 10  # number of tiles; the first 10 are those of the split `sample`


def run(data: DataConfig, sample: SampleConfig, raw: Path) -> RawTree:
    """Fill the raw folder with the raw tiles of one source and nothing else.

    The sample replaces the folder when it is complete. Files of a user are brought one at a time and atomically, so an
    interrupted run resumes. A folder without `dataset.json` is incomplete.

    Args:
        data: the source.
        sample: settings of the generated city.
        raw: the folder.

    Raises:
        DataError: the source holds no tile, cannot be read, or is unsafe.
        ParamsError: the data set or a variant is unknown, `crs` is set to different values, or the split has tiles
            that a sample of this size does not have.
    """
    dataset = with_crs(datasets.dataset(data.dataset, data.image, data.dsm), "data.crs", data.crs)
    if data.path is None:
        tiles = sample_tiles(sample.tiles)
        _require_tiles(datasets.split(data.dataset, data.split), tiles)
        with replacing_folder(raw) as draft:
            tree = replace(write_city(sample.seed, sample.side_px, tiles, draft), folder=raw)
    else:
        with on_this_machine(data, raw.with_name("download")) as path:
            own = data.source == "folder"
            tree = collect_own(path, dataset, raw) if own else collect([path], dataset, raw, exact=True)
    known = () if data.path is None else datasets.tiles(dataset.name)  # a smaller sample lacks nothing
    known = tuple(dict.fromkeys((*known, *tree.tiles)))
    log.info("%s:\n%s\n%s", raw, summary(tree, known), dataset.acknowledgement)
    return tree


def _require_tiles(split: Split, tiles: Sequence[str]) -> None:
    """Refuse a split of the sample that has other tiles than those that are generated."""
    if lacking := [tile for tile in split.tiles if tile not in tiles]:
        places = [number for number, tile in enumerate(sample_tiles(MOST_TILES), 1) if tile in lacking]
        enough = len(places) == len(lacking)
        raise ParamsError(
            f"data.split {split.name} has the tile {lacking[0]}, but a sample with sample.tiles {len(tiles)} does not; "
            f"{f'set sample.tiles to {max(places)}' if enough else 'correct the split'}, or choose another data.split"
        )


def with_crs(dataset: Dataset, option: str, crs: str | None) -> Dataset:
    """The data set with the CRS of files that state none: `crs` of dataset.yaml, else the one of an option.

    Raises:
        ParamsError: one of them is not a CRS, or they differ.
    """
    key = f"crs in datasets/{dataset.name}/dataset.yaml"
    own, given = _parsed(key, dataset.crs), _parsed(option, crs)
    if own is not None and given is not None and not same_crs(own, given):
        raise ParamsError(f"{key} is {dataset.crs}, but {option} is {crs}; correct dataset.yaml, or remove {option}")
    return replace(dataset, crs=dataset.crs or crs)


def _parsed(key: str, text: str | None) -> CRS | None:
    try:
        return None if text is None else parse_crs(text)
    except DataError:
        raise ParamsError(f"{key} is {text!r}, not a coordinate reference system; write it like EPSG:32633") from None
