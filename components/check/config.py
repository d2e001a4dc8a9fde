"""Section `check` of params.yaml, and the input of the checkers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from components.check.facts import TileFacts
from components.check.findings import CODES
from components.common.data.config import Accepted, accepted_from
from components.common.data.datasets import KINDS, Dataset, FileKind, Split, Subset
from components.common.params import STRICT, Points, Processes, Share


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class CheckConfig:
    """Section `check` of params.yaml: limits that depend on the data, and how many processes read it."""

    max_dsm_missing_share: Share  # share of a tile's heights that may be missing before it is an error
    max_disagreement_share: Share  # share of eroded label pixels that may contradict the full label
    max_class_share_deviation: Points  # between class shares and the known ones, percentage points
    accept: dict[str, Any]  # code of a finding -> the tiles, or `all`, for which the error is accepted
    workers: Processes  # processes, each about 250 MB; 0: one per core

    def __post_init__(self) -> None:
        """Check the codes of accepted errors."""
        acceptable = [code for code, about in CODES.items() if about.acceptable]
        for code in self.accepted.codes:
            if code not in acceptable:
                wrong = "not a code of an error that can be accepted" if code in CODES else "unknown"
                raise ValueError(f"accept.{code} is {wrong}; expected one of {', '.join(sorted(acceptable))}")

    @property
    def accepted(self) -> Accepted:
        """Key `accept`, checked."""
        return accepted_from(self.accept)


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that a checker may use."""

    dataset: Dataset
    tiles: Mapping[str, TileFacts]  # in the order of the report
    splits: tuple[Split, ...]  # the chosen one, or all that the data set has
    chosen: bool  # whether one split was asked for
    limits: CheckConfig
    unreadable: Mapping[str, tuple[FileKind, ...]] = field(default_factory=dict)  # files that acquire had to leave out

    def subset(self, tile: str) -> Subset | None:
        """Subset of a tile in the chosen split; None: no split was chosen."""
        return self.splits[0].subset_of(tile) if self.chosen else None

    def kinds(self) -> tuple[FileKind, ...]:
        """The files that a complete tile has."""
        return tuple(kind for kind in KINDS if self.dataset.pattern(kind) is not None)
