"""The step `acquire`: a generated city, ISPRS files as downloaded, or a user's own -> data/raw, with `dataset.json`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from components.acquire.isprs_files import collect
from components.acquire.own_files import collect_own
from components.acquire.remote import on_this_machine
from components.acquire.sample.city import write_city
from components.acquire.summary import summary
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RawTree
from components.common.files import replacing_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """Section `sample` of params.yaml: the generated city."""

    seed: int  # >= 0; another seed is another city
    side_px: int  # side of a tile, pixels of 5 cm, 256..6000

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected a whole number of 0 or more")
        if not 256 <= self.side_px <= 6000:
            raise ValueError(f"side_px is {self.side_px}; expected 256 to 6000 pixels")


def run(data: DataConfig, sample: SampleConfig, raw: Path) -> RawTree:
    """Make the raw folder hold the raw tiles of one source and nothing else.

    Tiles of the sample replace the folder at the end. Files of a user are brought one at a time, each whole: an
    interrupted run is gone on with, and a folder without `dataset.json` is one that a run has not finished.

    Args:
        data: the source.
        sample: used when the source is the sample.
        raw: the folder.

    Raises:
        DataError: the source holds no tile, cannot be read, or is not to be trusted.
        ParamsError: the data set or a variant is not known.
    """
    dataset = datasets.dataset(data.dataset, data.image, data.dsm)
    dataset = replace(dataset, crs=data.crs or dataset.crs)
    if data.path is None:
        with replacing_folder(raw) as draft:
            tree = replace(write_city(sample.seed, sample.side_px, draft), folder=raw)
    else:
        with on_this_machine(data, raw.with_name("download")) as path:
            own = data.source == "folder"
            tree = collect_own(path, dataset, raw) if own else collect([path], dataset, raw, exact=True)
    known = tuple(dict.fromkeys((*datasets.tiles(dataset.name), *tree.tiles)))
    log.info("%s:\n%s\n%s", raw, summary(tree, known), dataset.acknowledgement)
    return tree
