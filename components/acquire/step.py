"""The step `acquire`: a generated city, or ISPRS files as downloaded -> data/raw, in the ISPRS layout."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.acquire.isprs_files import collect
from components.acquire.sample.city import write_city
from components.common import isprs
from components.common.files import replacing_folder, write_json

log = logging.getLogger(__name__)

SOURCE_FILE = "source.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Section `data` of params.yaml: where raw tiles come from."""

    source: Literal["sample", "isprs"]  # generated city | the files as downloaded
    dataset: isprs.DatasetName
    path: str | None  # isprs: a folder or a .zip; None with the sample
    crs: str | None  # EPSG:..., where the files carry none; None: the data set's usual one

    def __post_init__(self) -> None:
        if self.source == "isprs" and not self.path:
            raise ValueError(
                "path is null; expected the folder or .zip with the ISPRS files, since data.source is isprs"
            )
        if self.source == "sample" and self.path is not None:
            raise ValueError(f"path is {self.path!r}; expected null with the sample, or set data.source to isprs")
        if self.source == "sample" and self.dataset != "potsdam":
            raise ValueError(f"dataset is {self.dataset!r}; expected potsdam, the layout that the sample is written in")
        if self.crs is not None and not re.fullmatch(r"EPSG:\d{4,6}", self.crs):
            raise ValueError(f"crs is {self.crs!r}; expected null or a code like EPSG:32633")


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


@dataclass(frozen=True, slots=True)
class AcquireResult:
    """What lies in the raw folder."""

    raw: Path
    dataset: isprs.DatasetName
    crs: str
    tiles: tuple[str, ...]  # ids of the tiles of which there is an image


def run(data: DataConfig, sample: SampleConfig, raw: Path) -> AcquireResult:
    """Fill the raw folder. It is whole or as it was: an interruption leaves what was there before.

    Args:
        data: the source.
        sample: used when the source is the sample.
        raw: folder to fill; replaced if it exists.

    Raises:
        DataError: the source holds no tile, cannot be read, or is not to be trusted.
    """
    dataset = isprs.dataset(data.dataset)
    crs = data.crs or dataset.crs
    with replacing_folder(raw) as draft:
        if data.path is None:
            tiles = write_city(sample.seed, sample.side_px, draft)
        else:
            tiles = collect(Path(data.path).expanduser(), dataset, draft)
        write_json(draft / SOURCE_FILE, {"source": data.source, "dataset": dataset.name, "crs": crs})
    log.info("%s: %d tiles. %s", raw, len(tiles), isprs.acknowledgement(_licensor(data)))
    return AcquireResult(raw, dataset.name, crs, tiles)


def _licensor(data: DataConfig) -> str:
    return "sample" if data.source == "sample" else data.dataset
