"""The step `check`: raw tiles -> one report of everything that is wrong with them; errors stop the pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.check import coverage, file_checks, height_checks, image_checks, label_checks, places, whole
from components.check.config import CheckConfig, Subject
from components.check.findings import CODES, SEVERITIES, Finding, accepted
from components.check.report import Report, as_document
from components.check.scan import TileJob, scan_tile
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.datasets import Split
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.errors import DataError, ParamsError
from components.common.files import write_json
from components.common.pool import pooled
from components.common.progress import track
from components.common.readers.tiles import ReaderSettings, TileFiles

log = logging.getLogger(__name__)

CHECKERS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    file_checks.reported,
    file_checks.missing_files,
    coverage.unpaired,
    file_checks.missing_tiles,
    file_checks.known_trouble,
    places.reference_systems,
    places.georeferences,
    places.ground_sizes,
    places.places_by_id,
    places.sizes,
    image_checks.contents,
    image_checks.labels_in_their_place,
    image_checks.colour_tags,
    image_checks.infrared,
    image_checks.odd_order,
    height_checks.presence,
    height_checks.outliers,
    height_checks.saturation,
    height_checks.units,
    height_checks.reference,
    label_checks.legend,
    label_checks.classes_there,
    label_checks.boundaries,
    label_checks.agreement,
    whole.duplicates,
    whole.same_files,
    whole.overlaps,
    whole.class_shares,
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A finished check without errors."""

    report: Report
    path: Path


def run(data: DataConfig, config: CheckConfig, settings: ReaderSettings, raw: Path, report: Path) -> CheckResult:
    """Check the tiles of the split, write the report, stop at errors.

    Args:
        data: which split of which data set.
        config: the limits.
        settings: of the reader, those of preprocess.
        raw: folder of the acquire step.
        report: file to write, also when there are errors.

    Raises:
        DataError: there are errors: preprocess would reject a tile, or scores would be wrong.
        ParamsError: the data set has no split of this name, or `check.accept` names a tile that is not known.
    """
    tree = read_raw_tree(raw)
    if tree.dataset.name != data.dataset:
        raise DataError(f"{raw}: holds {tree.dataset.name}, but data.dataset is {data.dataset}; run the acquire step")
    found = examine(tree, (datasets.split(data.dataset, data.split),), True, config, settings)
    write_json(report, as_document(found))
    counts = found.counts
    log.info("%s: %s", report, ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES))
    for one in found.findings:
        if one.code in ("unpaired", "sensor-absent"):  # a file that is missing must not stay unseen
            log.warning("%s", one.line)
    errors = [one for one in found.findings if one.severity == "error"]
    if errors:
        raise DataError(
            f"{raw}: {len(errors)} error{'s' * (len(errors) > 1)}, the first in {errors[0].line} (all are in {report}; "
            f"`mobanet data check {raw} --split {data.split}` prints them)"
        )
    return CheckResult(found, report)


def examine(
    tree: RawTree,
    splits: tuple[Split, ...],
    chosen: bool,
    config: CheckConfig,
    settings: ReaderSettings,
    findings: tuple[Finding, ...] = (),
) -> Report:
    """Read every tile and run every checker.

    Args:
        tree: the tiles.
        splits: those to judge by.
        chosen: True: check only the tiles of the one split given; False: check all tiles.
        config: the limits.
        settings: of the reader.
        findings: those that are known already.

    Raises:
        ParamsError: `check.accept` names a tile that is not known.
    """
    _require_known_tiles(tree, splits, config)
    tiles = [tile for tile in (splits[0].tiles if chosen else tree.tiles) if tree.tiles.get(tile)]
    jobs = [TileJob(_files(tree, tile), settings) for tile in tiles]
    read = pooled(scan_tile, jobs, config.workers)
    facts = {found.tile: found for found in track(read, "checking tiles", len(tiles))}
    subject = Subject(tree.dataset, facts, splits, chosen, config, tree.unreadable)
    found = {*findings, *(one for checker in CHECKERS for one in checker(subject))}
    order = {tile: number for number, tile in enumerate(facts)}
    judged = sorted((accepted(one, config.accepted) for one in found), key=lambda one: _rank(one, order))
    return Report(str(tree.folder), tree.source, subject, tuple(judged))


def _files(tree: RawTree, tile: str) -> TileFiles:
    return TileFiles(tree.folder, tree.dataset, tree.source == "folder", tile, tree.tiles[tile])


def _require_known_tiles(tree: RawTree, splits: tuple[Split, ...], config: CheckConfig) -> None:
    """Refuse tile ids in `check.accept` that neither the raw tiles nor the splits have."""
    known = set(tree.tiles).union(*(split.tiles for split in splits))
    if unknown := sorted(config.accepted.tiles - known):
        raise ParamsError(
            f"check.accept names the tile {unknown[0]!r}, which {tree.dataset.name} does not have; correct or remove it"
        )


def _rank(one: Finding, order: dict[str, int]) -> tuple[int, int, int, str, str, str]:
    """Sort key: worst first, then in the order of the codes and of the tiles."""
    place = order.get(one.tile or "", -1 if one.tile is None else len(order))
    code = list(CODES).index(one.code)
    return SEVERITIES.index(one.severity), code, place, one.tile or "", one.file or "", one.sentence
