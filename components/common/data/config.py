"""The section `data` of params.yaml: where raw tiles come from, and which of them are for what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

S3 = "s3://"
"""How a path in S3 begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Section `data` of params.yaml: which raw tiles, and which of them to train, validate and test on."""

    source: Literal["sample", "isprs", "folder"]  # generated city | files as downloaded, by name | own data, by pattern
    dataset: str  # a folder of datasets/
    split: str  # a file in it, without .yaml
    image: str | None  # variant of the image; None: the data set's first
    dsm: str | None  # variant of the heights; None: the data set's first
    path: str | None  # where the files are: folder or s3://bucket/prefix, with isprs also a .zip; None with the sample
    repo: str | None  # DVC repository, folder or address, in which `path` is; None: none
    rev: str | None  # its Git commit, tag or branch; None: the newest
    crs: str | None  # EPSG:..., where the files carry none; None: as the data set says

    def __post_init__(self) -> None:
        if (self.source == "sample") != (self.dataset == "sample"):
            raise ValueError(f"dataset is {self.dataset!r}; expected sample with data.source sample, and only with it")
        if self.source == "sample" and self.path is not None:
            raise ValueError(f"path is {self.path!r}; expected null with the sample, or set data.source")
        if self.source != "sample" and not self.path:
            raise ValueError(f"path is null; expected where the files are, since data.source is {self.source}")
        if self.repo is not None and (self.path is None or self.path.startswith((S3, "/", "~"))):
            raise ValueError(f"path is {self.path!r}; expected a path inside the repository, since data.repo is given")
        if self.rev is not None and self.repo is None:
            raise ValueError(f"rev is {self.rev!r}; expected null without data.repo")
        if self.crs is not None and not re.fullmatch(r"EPSG:\d{4,6}", self.crs):
            raise ValueError(f"crs is {self.crs!r}; expected null or a code like EPSG:32633")
