"""Sections of params.yaml that describe the data: the source of the raw tiles, and accepted findings."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT, Text

S3 = "s3://"
"""Prefix of a path in S3."""

Epsg = Annotated[str, Field(pattern=r"^EPSG:\d{4,6}$", description="a code like EPSG:32633")]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class DataConfig:
    """Section `data` of params.yaml: which raw tiles, and which of them to train, validate and test on."""

    source: Literal["sample", "isprs", "folder"]  # generated city | ISPRS files, by name | own data, by pattern
    dataset: Text  # a folder of datasets/
    split: Text  # a file in it, without .yaml
    image: Text | None  # variant of the image; None: the data set's first
    dsm: Text | None  # variant of the heights; None: the data set's first
    path: Text | None  # the files: folder or s3://bucket/prefix, with isprs also a .zip; None with the sample
    repo: Text | None  # DVC repository (folder or URL) that contains `path`; None: none
    rev: Text | None  # Git commit, tag or branch of that repository; None: the newest commit
    crs: Epsg | None  # EPSG:... of files without an identifiable CRS; None: `crs` in dataset.yaml

    def __post_init__(self) -> None:
        if (self.source == "sample") != (self.dataset == "sample"):
            raise ValueError(f"dataset is {self.dataset!r}; expected sample with data.source sample, and only with it")
        if self.source == "sample" and self.path is not None:
            raise ValueError(f"path is {self.path!r}; expected null with the sample, or set data.source")
        if self.source != "sample" and self.path is None:
            raise ValueError(f"path is null; expected where the files are, since data.source is {self.source}")
        if self.repo is not None and (self.path is None or self.path.startswith((S3, "/", "~"))):
            raise ValueError(f"path is {self.path!r}; expected a path inside the repository, since data.repo is given")
        if self.rev is not None and self.repo is None:
            raise ValueError(f"rev is {self.rev!r}; expected null without data.repo")


ALL = "all"
"""Stands for every tile in `check.accept`."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Findings that the user has overruled: code -> tile ids, or `all` (key `check.accept` of params.yaml)."""

    codes: Mapping[str, tuple[str, ...] | Literal["all"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for code, tiles in self.codes.items():
            known = tiles == ALL or (isinstance(tiles, tuple) and tiles and all(isinstance(t, str) for t in tiles))
            if not isinstance(code, str) or not known:
                given = list(tiles) if isinstance(tiles, tuple) else tiles
                raise ValueError(
                    f"accept.{code} is {given!r}; expected a list of tile ids in quotes (2_10 without quotes is a "
                    f"number in YAML), or {ALL}"
                )

    @property
    def tiles(self) -> set[str]:
        """All tile ids that are named."""
        return {tile for tiles in self.codes.values() if tiles != ALL for tile in tiles}

    def covers(self, code: str, tile: str | None) -> bool:
        """Whether the user has overruled a finding; one about no single tile needs `all`."""
        tiles = self.codes.get(code, ())
        return tiles == ALL or tile in tiles


def accepted_from(given: Mapping[str, Any]) -> Accepted:
    """`check.accept` as YAML and JSON hold it.

    Raises:
        ValueError: it is not a mapping of codes to tile ids or `all`; the sentence starts with `accept`.
    """
    return Accepted({code: tuple(map(_nfc, t)) if isinstance(t, list) else t for code, t in given.items()})


def _nfc(tile: Any) -> Any:
    """A tile id in Unicode NFC, as splits have them."""
    return unicodedata.normalize("NFC", tile) if isinstance(tile, str) else tile


def how_to_accept(code: str, tile: str | None) -> str:
    """The end of a sentence about a finding that `check.accept` can accept."""
    tiles = ALL if tile is None else json.dumps([tile], ensure_ascii=False)
    return f"; to accept it, set check.accept: {{{code}: {tiles}}}"
