"""Evaluate: score the selected checkpoint on the test tiles with both sensors, the image only and the DSM only.

In: `data/store` (test tiles only), `models/best.safetensors`. Out, in `reports`: `evaluation.json`, `metrics.json`,
`confusion.csv`, `confusion.png`, `panels/TILE.png`, `report.html`; docs/evaluation.md describes them.
The figures and files are also added to the training's MLflow run.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from components.common.data.datasets import Subset
from components.common.data.store import Store, TileEntry
from components.common.errors import NonFiniteError, ParamsError, StoreError
from components.common.inference.any_network import AnyNetwork
from components.common.inference.model_inputs import require_inputs_of
from components.common.inference.modelfile import ModelFacts
from components.common.inference.windows import Windows
from components.common.predictors.scored import ScoredModel, open_scored
from components.common.progress import track
from components.common.scoring.boundary import WIDTH_PX
from components.common.scoring.conditions import GROUND_TRUTH, conditions, tiles_by_condition
from components.common.scoring.metrics import scores
from components.common.scoring.tile_counts import Counted
from components.common.tracking import provenance, server
from components.evaluate import interpretation, outputs, record, robustness, trust
from components.evaluate.config import EvaluateConfig
from components.evaluate.tile_results import TileResult, predict_tile, total
from components.evaluate.worst_crops import worst_of

log = logging.getLogger(__name__)

SUBSET: Subset = "test"


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The record and the path of the HTML report."""

    evaluation: record.Evaluation
    report: Path


def run(config: EvaluateConfig, store: Path, weights: Path, reports: Path, *, tracked: bool = True) -> EvaluateResult:
    """Evaluate a checkpoint and write the reports.

    Args:
        config: section `evaluate`.
        store: folder of the store; only the manifest and the test tiles are read.
        weights: a model in any format: a file of `save_model`, an exported file, a package folder, or
            `models:/NAME@ALIAS`. The figures of an exported file are not sent to the run of its training.
        reports: folder for the outputs; files of other steps in it stay unchanged.
        tracked: if the training was tracked, add the figures to its MLflow run.

    Raises:
        ParamsError: the stride is larger than the window, or an exported file has another window or cannot be given
            degraded inputs.
        StoreError: the store is unreadable, has no labelled test tile with all sensors of the network, or was not made
            for this model.
        WeightsError: the weights are unreadable.
        NonFiniteError: the network gives logits that are NaN or infinite.
        TrackingError: the training was tracked, and its MLflow store cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with open_scored(weights, device) as model:
        return _evaluate(config, store, weights, reports, model, tracked)


def _evaluate(
    config: EvaluateConfig, store: Path, weights: Path, reports: Path, model: ScoredModel, tracked: bool
) -> EvaluateResult:
    network, facts, device = model.network, model.facts, model.device
    run_id = facts.mlflow_run_id if tracked and not model.exported else None  # the run's figures are the network's
    if run_id is not None:
        server.connect()  # fail before the work, not after it, if the server is down
    data = Store(store)
    require_inputs_of(facts, data, weights)
    if not data.manifest.subset(SUBSET):
        raise StoreError(
            f"{store}: the store has no test tile of the split {data.manifest.split}; run acquire and preprocess again"
        )
    entries = data.manifest.subset(SUBSET)
    _require_sensors(network, entries, store)
    _require_scorable(config, model, weights)
    windows = windows_of(config, network, facts)
    try:
        results = list(_predict_tiles(network, facts, data, windows, device, config))
        degraded = _degraded(network, facts, data, windows, device, results) if config.robustness else None
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{weights}: {error}, so this model cannot be scored; train again with a lower train.learning_rate or with "
            "train.max_gradient_norm"
        ) from None
    manifest = data.manifest
    evaluation = record.evaluation(
        total(results),
        facts,
        _protocol(model, data, windows),
        config.failure_probability,
        (*interpretation.data_warnings(manifest, data.data_md5, facts, entries), *_coverage(network, entries)),
        total([result for result in results if len(result.counts) == len(conditions(network))]),
    )
    if math.isnan(evaluation.headline.miou):
        raise StoreError(f"{store}: the test tiles have no labelled pixel; check the raw labels, then run preprocess")
    crops = worst_of(result.worst for result in results)
    evaluation = replace(
        _judged(evaluation, results, entries, facts, config),
        robustness=degraded,
        worst_crops=tuple(crop.entry(facts.classes) for crop in crops),
    )
    outputs.write_reports(reports, evaluation, [result.thumbnails for result in results], manifest, crops)
    for warning in evaluation.warnings:
        log.warning("%s", warning)
    log.info("%s", interpretation.headline(evaluation))
    if run_id is not None:
        outputs.send(run_id, reports, evaluation)
    return EvaluateResult(evaluation, reports / outputs.REPORT)


def _require_scorable(config: EvaluateConfig, model: ScoredModel, weights: Path) -> None:
    """What an exported file cannot do is an error before the work."""
    if model.fixed_px is not None and config.window_px not in (None, model.fixed_px):
        raise ParamsError(
            f"evaluate.window_px is {config.window_px}, but the windows of {weights.name} are fixed to "
            f"{model.fixed_px} px; set it to null, or score model.safetensors"
        )
    if model.exported and config.robustness:
        raise ParamsError(
            f"evaluate.robustness is true, but {weights.name} takes pixels as files store them, so it cannot be given "
            "degraded ones; set it to false, or score model.safetensors"
        )


def windows_of(config: EvaluateConfig, network: AnyNetwork, facts: ModelFacts) -> Windows:
    """How the tiles are cut for a network: windows as in its training, or `window_px` rounded up to whole patches.

    Raises:
        ParamsError: the stride is larger than the window.
    """
    wanted = config.window_px or facts.window_px
    windows = Windows.of(
        network,
        wanted,
        stride_px=config.stride_px,
        batch_size=config.batch_size,
        image_mean=facts.image_mean,
        image_std=facts.image_std,
    )
    side = windows.window_px
    if config.stride_px > side:
        raise ParamsError(
            f"evaluate.stride_px is {config.stride_px}, but the window is {side} px; "
            f"set it to 1 up to {side}, so that windows leave no gaps"
        )
    if side != wanted:
        log.info("evaluate.window_px %d is rounded up to %d, whole patches of %d px", wanted, side, windows.patch_size)
    return windows


def _predict_tiles(
    network: AnyNetwork, facts: ModelFacts, data: Store, windows: Windows, device: torch.device, config: EvaluateConfig
) -> Iterator[TileResult]:
    """Evaluate the test tiles one by one; each result is small."""
    counted = Counted(block_px=config.intervals.block_px, boundary_px=WIDTH_PX, temperature=facts.temperature or {})
    for entry in track(data.manifest.subset(SUBSET), "evaluating test tiles"):
        start = time.monotonic()
        result = predict_tile(network, entry.id, data[entry], windows, device, config.panel_px, counted)
        found = {
            name: scores(counts[GROUND_TRUTH], facts.classes, facts.in_means).miou
            for name, counts in result.confusions.items()
        }
        text = "  ".join(f"{name} {miou:5.1f}" for name, miou in found.items())
        log.info("tile %-6s  mIoU  %s  %6.1f s", entry.id, text, time.monotonic() - start)
        yield result


def _degraded(
    network: AnyNetwork,
    facts: ModelFacts,
    data: Store,
    windows: Windows,
    device: torch.device,
    results: Sequence[TileResult],
) -> tuple[record.Degraded, ...]:
    """Score degraded inputs, and compare them with the intact ones."""
    intact_KK = next(iter(total(results).values()))[GROUND_TRUTH]
    intact = scores(intact_KK, facts.classes, facts.in_means).miou
    return robustness.robustness(network, facts, data, data.manifest.subset(SUBSET), windows, device, intact)


def _judged(
    evaluation: record.Evaluation,
    results: Sequence[TileResult],
    entries: Sequence[TileEntry],
    facts: ModelFacts,
    config: EvaluateConfig,
) -> record.Evaluation:
    """Add intervals, boundary IoU and calibration."""
    counts = [result.counts for result in results]
    found = trust.score_intervals(counts, entries, facts, config)
    return replace(
        evaluation,
        intervals=found,
        boundary=trust.boundaries(counts, facts),
        calibration=trust.calibrations(counts, facts),
    )


def _require_sensors(network: AnyNetwork, entries: Sequence[TileEntry], store: Path) -> None:
    """The headline figure needs a tile with all sensors of the network."""
    first = conditions(network)[0]
    if first not in tiles_by_condition(network, entries):
        needed = {"rgb+dsm": "both image and DSM", "rgb": "an image", "dsm": "a DSM"}[first]
        raise StoreError(
            f"{store}: no test tile has {needed}, which this model needs; add one to the test tiles of the split, then "
            "run acquire and preprocess again"
        )


def _coverage(network: AnyNetwork, entries: Sequence[TileEntry]) -> tuple[str, ...]:
    """A sentence if conditions are scored on different tiles."""
    tiles = tiles_by_condition(network, entries)
    if all(len(ids) == len(entries) for ids in tiles.values()):
        return ()
    shares = ", ".join(f"{interpretation.TITLES[name].lower()} {len(ids)}" for name, ids in tiles.items())
    return (
        f"Some of the {len(entries)} test tiles lack a sensor, so conditions are scored on different tiles: "
        f"{shares.replace('dsm', 'DSM')}. The balance figures, the expected mIoU and the differences are those of the "
        "tiles with both sensors.",
    )


def _protocol(model: ScoredModel, data: Store, windows: Windows) -> record.Protocol:
    manifest, facts = data.manifest, model.facts
    return record.Protocol(
        dataset=manifest.dataset,
        source=manifest.source,
        split=manifest.split,
        subset=SUBSET,
        tiles=tuple(entry.id for entry in manifest.subset(SUBSET)),
        classes=facts.classes,
        mean_classes=tuple(name for name, counts in zip(facts.classes, facts.in_means, strict=True) if counts),
        ground_truth=GROUND_TRUTH,
        missing_modality=record.MISSING_MODALITY[facts.network.missing],
        window_px=windows.window_px,
        stride_px=windows.stride_px,
        overlap=record.OVERLAP,
        precision=model.precision,
        gsd_m=manifest.gsd_m,
        bands=manifest.bands,
        heights=manifest.heights,
        data_md5=data.data_md5,
        raw_md5=manifest.raw_md5,
        git_commit=provenance.git_commit(),
        tool_version=provenance.tool_version(),
        device=model.device.type,
        model=record.trained_model(facts, model.sha256),
        tiles_by_condition=tiles_by_condition(model.network, manifest.subset(SUBSET)),
    )
