"""The training loop: optimiser steps, log lines, checkpoints and validations at fixed intervals."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch

from components.common.data.store import Store
from components.common.errors import NonFiniteError, StoreError
from components.common.inference.windows import Windows
from components.common.progress import track
from components.common.tracking.run import Run
from components.train.batches import Inputs, make_inputs, one_ahead
from components.train.checkpoints.checkpoint import Checkpoints, Progress
from components.train.config import RuntimeConfig, TrainConfig
from components.train.crops import Batch, Crops, batches
from components.train.divergence import RecentSteps, fault, stopped
from components.train.optim import StepFigures, learning_rate, take_step
from components.train.ranks.distributed import Ranks
from components.train.ranks.stop import EXIT_CODE
from components.train.stopwatch import Stopwatch
from components.train.trained_tiles import training_tiles
from components.train.validation import pictures, selected_step, steps_in_play, validate
from model import MoBaNet
from model.speed import autocast
from model.training_loss import Loss

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """The objects of a run that the loop needs."""

    network: MoBaNet
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    runtime: RuntimeConfig
    store: Store
    windows: Windows
    ranks: Ranks
    loss: Loss
    checkpoints: Checkpoints
    run: Run  # logs nothing on ranks other than 0


def fit(session: Session, progress: Progress) -> None:
    """Train from `progress.step` to the last step, updating `progress` and the checkpoints.

    Raises:
        SystemExit: with code 75, after a request to stop; the checkpoint of the last step is written.
        NonFiniteError: a loss, a gradient, a weight or a logit of a validation is not finite; no such network is
            selected.
        StoreError: the validation tiles give no figures.
        WeightsError: after a request to stop, the checkpoint of the last step could not be written.
    """
    config, runtime = session.config, session.runtime
    _send_history(session, progress)
    if progress.step and _validation_is_due(session, progress):  # the run was interrupted during the validation
        _validate(session, progress)
    crops = Crops(session.store, training_tiles(session.store, session.network.config.modalities), config)
    recent, stopwatch = RecentSteps(session.ranks, progress.since_row), Stopwatch()
    saved = time.monotonic()
    session.network.train()
    first = progress.step + 1
    shown = track(_inputs(session, crops, first), "training", config.steps - progress.step, lines=False)
    for step, inputs in enumerate(shown, start=first):
        recent.add(_step(session, inputs, step))
        progress.step = step
        logged = step % runtime.log_every_steps == 0 or step == config.steps
        overdue = time.monotonic() - saved > 60 * runtime.checkpoint_every_minutes
        stop, overdue = session.ranks.any(session.ranks.stop.requested, overdue)
        due = _validation_is_due(session, progress)
        save = stop or overdue or due or (runtime.checkpoint_every_steps and step % runtime.checkpoint_every_steps == 0)
        if logged or save or step == first:
            _read(session, progress, recent)
        stopwatch.step()
        if logged:
            _log(session, progress, stopwatch.lap())
            recent.clear()
        if save:
            with stopwatch.paused():
                _save(session, progress)
            saved = time.monotonic()
        if stop:
            _stop(session, progress)
        if due:
            with stopwatch.paused():
                _validate(session, progress)
                _save(session, progress)
            saved = time.monotonic()
    session.ranks.broadcast(session.checkpoints.wait)


def _inputs(session: Session, crops: Crops, first: int) -> Iterator[Inputs]:
    config, windows, ranks = session.config, session.windows, session.ranks
    loaded = batches(crops, config, session.runtime.workers, first, rank=ranks.rank, world_size=ranks.size)

    def make(batch: Batch, step: int) -> Inputs:
        modalities = session.network.config.modalities
        return make_inputs(batch, step, config, windows, ranks.device, ranks.rank, ranks.size, modalities)

    if session.runtime.speed.on(ranks.device).prefetch:
        return one_ahead(loaded, make, first)
    return (make(batch, step) for step, batch in enumerate(loaded, start=first))


def _step(session: Session, inputs: Inputs, step: int) -> StepFigures:
    return take_step(session.loss, session.optimizer, inputs, step, session.config, session.ranks)


def _read(session: Session, progress: Progress, recent: RecentSteps) -> None:
    """Read the recent steps into `progress`, and stop all ranks if a value is not finite."""
    progress.since_row = recent.read()
    found = fault(progress, session.network, session.optimizer, session.ranks)
    if found is not None:
        _fail(session, progress, found)


def _fail(session: Session, progress: Progress, found: str) -> NoReturn:
    error = stopped(found, progress, session.config, session.ranks.broadcast(session.checkpoints.newest_step))
    session.run.tags({"error": error})
    raise error from None


def _save(session: Session, progress: Progress) -> None:
    """Hand the state to the checkpoint writer; training continues during the write."""
    rows = progress.validations
    candidates = steps_in_play(rows, session.config.validation.guard) if rows else set()
    session.ranks.broadcast(lambda: session.checkpoints.save(session.network, session.optimizer, progress, candidates))


def _stop(session: Session, progress: Progress) -> NoReturn:
    session.ranks.broadcast(lambda: session.checkpoints.require_on_disk(progress.step))
    log.info("stopped after step %d on request; run the same command again to continue", progress.step)
    raise SystemExit(EXIT_CODE)


def _send_history(session: Session, progress: Progress) -> None:
    """Send all earlier rows to the tracked run again; it may have missed some before the interruption."""
    for row in progress.losses:
        _send(session, "train", row)
    for row in progress.validations:
        _send(session, "val", row)


def _send(session: Session, kind: str, row: dict[str, float]) -> None:
    values = {f"{kind}/{name}": value for name, value in row.items() if name != "step"}
    session.run.metrics(values, int(row["step"]), once=True)


def _log(session: Session, progress: Progress, steps_per_s: float | None) -> None:
    """Turn the steps since the last row into a row; `steps_per_s` is None if no step was measured yet.

    The loss includes the terms of the copies. The images per second are those of the batch, without its copies.
    """
    config, step = session.config, progress.step
    losses, norms = zip(*progress.since_row, strict=True)
    row = {
        "step": step,
        "loss": math.fsum(losses) / len(losses),
        "gradient_norm": max(norms),
        "learning_rate": learning_rate(step, config),
    }
    progress.losses.append(row)
    progress.since_row = []
    _send(session, "train", row)
    line = "step %5d/%d  loss %.4f  gradient norm %.3g  lr %.2e"
    values = [step, config.steps, row["loss"], row["gradient_norm"], row["learning_rate"]]
    if steps_per_s is not None:
        line += "  %.1f images/s  %.1f min left"
        values += [steps_per_s * config.batch_size, (config.steps - step) / steps_per_s / 60]
    log.info(line, *values)


def _validation_is_due(session: Session, progress: Progress) -> bool:
    step, config = progress.step, session.config
    done = progress.validations[-1]["step"] if progress.validations else 0
    return (step % config.validation.every_steps == 0 or step == config.steps) and step > done


def _validate(session: Session, progress: Progress) -> None:
    config, step, ranks = session.config.validation, progress.step, session.ranks
    try:
        with autocast(session.config.precision, ranks.device):
            figures = validate(session.network, session.store, session.windows, config, ranks)
    except NonFiniteError as error:
        _fail(session, progress, f"in the validation, {error}")
    if figures is None:
        _stop(session, progress)
    if not math.isfinite(figures["expected_miou"]):
        raise StoreError(
            f"{session.store.path}: no pixel of the validation tiles could be scored; run preprocess again"
        )
    progress.validations.append({"step": step, **figures})
    ranks.broadcast(lambda: session.checkpoints.save_candidate(session.network, step))
    if ranks.first:
        _send(session, "val", progress.validations[-1])
        _send_pictures(session, step)
    mious = "  ".join(f"{name.removeprefix('miou_')} {value:.2f}" for name, value in figures.items() if "miou_" in name)
    best = "  best so far" if selected_step(progress.validations, config.guard) == step else ""
    log.info("step %5d  validation mIoU %%: %s  expected %.2f%s", step, mious, figures["expected_miou"], best)


def _send_pictures(session: Session, step: int) -> None:
    if session.runtime.tracking == "none":
        return
    count, device = session.config.validation.pictures, session.ranks.device
    with autocast(session.config.precision, device):
        for tile, picture in pictures(session.network, session.store, session.windows, count, device):
            session.run.image(f"validation {tile}", picture, step)
