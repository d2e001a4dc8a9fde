"""The record of one check: what `reports/data_check.json` holds, described by `check.schema.json`.

In: the facts of all tiles and the findings. Out: `Report`, and a JSON document that depends on the data alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.check.config import Subject
from components.check.coverage import coverage
from components.check.facts import FileFacts, TileFacts
from components.check.findings import SEVERITIES, Finding, Severity
from components.common.data.datasets import KINDS, FileKind
from components.common.readers.footprints import pixel_size_m
from components.common.scoring.metrics import as_json

FORMAT = 2
"""Raised whenever a program for an earlier version could misread a file of this one."""

DIGITS = 6
"""Decimals of figures: a micrometre on the map, a pixel in a million."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one check."""

    folder: str
    source: str  # sample | isprs | folder
    subject: Subject
    findings: tuple[Finding, ...]  # worst first

    @property
    def counts(self) -> dict[Severity, int]:
        """Findings by severity."""
        counted = Counter(one.severity for one in self.findings)
        return {severity: counted[severity] for severity in SEVERITIES}

    @property
    def class_shares(self) -> tuple[float, ...] | None:
        """Percent of the labelled pixels of all tiles; None: no label could be read."""
        labels = [facts.label.class_px for facts in self.subject.tiles.values() if facts.label is not None]
        totals = [sum(px) for px in zip(*labels, strict=True)]
        return tuple(round(100 * px / sum(totals), 4) for px in totals) if sum(totals) else None


def as_document(report: Report) -> dict[str, Any]:
    """The report as JSON; what JSON cannot hold is null."""
    subject = report.subject
    dataset = subject.dataset
    return as_json(
        {
            "format": FORMAT,
            "dataset": dataset.name,
            "source": report.source,
            "split": subject.splits[0].name if subject.chosen else None,
            "limits": {key: value for key, value in asdict(subject.limits).items() if key != "workers"},
            "counts": report.counts,
            "class_shares": {
                "classes": [c.name for c in dataset.classes],
                "found": report.class_shares,
                "known": dataset.class_shares,
            },
            "coverage": {part.subset: part.counts for part in coverage(subject)},
            "tiles": [_tile(subject, facts) for facts in subject.tiles.values()],
            "findings": [asdict(one) for one in report.findings],
        },
        DIGITS,
    )


def _tile(subject: Subject, facts: TileFacts) -> dict[str, Any]:
    files = {kind: _file(facts, kind) for kind in KINDS if kind in facts.places}
    return {"id": facts.tile, "subset": subject.subset(facts.tile), "files": files}


def _file(facts: TileFacts, kind: FileKind) -> dict[str, Any]:
    """What is known of one file: its header if the reader accepts it, its pixels if they were read to the end."""
    header, pixels = facts.files.get(kind), facts.pixels.get(kind)
    contents: Mapping[FileKind, Any] = {
        "image": facts.image,
        "dsm": facts.dsm,
        "label": facts.label,
        "eroded": facts.eroded,
    }
    return {
        "path": facts.places[kind],
        "header": None if header is None else _header(header),
        "pixels": None if pixels is None else asdict(pixels),
        "contents": None if contents[kind] is None else asdict(contents[kind]),
    }


def _header(facts: FileFacts) -> dict[str, Any]:
    grid = facts.grid
    return {
        "width_px": grid.width_px,
        "height_px": grid.height_px,
        "bands": facts.bands,
        "dtype": facts.dtype,
        "nodata": facts.nodata,
        "crs": None if grid.crs is None else grid.crs.to_string(),
        "transform": None if grid.transform is None else grid.transform[:6],
        "pixel_m": pixel_size_m(grid),
        "colours": facts.colours,
    }
