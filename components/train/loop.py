"""The training loop: optimiser steps, log lines, checkpoints and validations at fixed intervals."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.progress import track
from components.common.tracking.run import Run
from components.train.batches import Inputs, make_inputs, one_ahead
from components.train.checkpoint import Checkpoints, Progress
from components.train.config import RuntimeConfig, TrainConfig
from components.train.crops import Batch, Crops, batches
from components.train.distributed import Ranks
from components.train.optim import learning_rate, take_step
from components.train.stop import EXIT_CODE
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
    """
    config, runtime = session.config, session.runtime
    _send_history(session, progress)
    if progress.step and _validation_is_due(session, progress):  # the run was interrupted during the validation
        _validate(session, progress)
    crops = Crops(session.store, session.store.manifest.subset("train"), config)
    # Each rank holds its share of the loss; checkpoints hold the total.
    losses = [torch.tensor(loss * session.ranks.first, device=session.ranks.device) for loss in progress.since_row]
    since = saved = time.monotonic()
    session.network.train()
    first = progress.step + 1
    shown = track(_inputs(session, crops, first), "training", config.steps - progress.step, lines=False)
    for step, inputs in enumerate(shown, start=first):
        losses.append(_step(session, inputs, step))
        progress.step = step
        if step % runtime.log_every_steps == 0 or step == config.steps:
            _log(session, progress, losses, len(losses) / (time.monotonic() - since))
            losses, since = [], time.monotonic()
        overdue = time.monotonic() - saved > 60 * runtime.checkpoint_every_minutes
        stop, overdue = session.ranks.any(session.ranks.stop.requested, overdue)
        due = _validation_is_due(session, progress)
        if stop or overdue or due or (runtime.checkpoint_every_steps and step % runtime.checkpoint_every_steps == 0):
            _save(session, progress, losses)
            saved = time.monotonic()
        if stop:
            _stop(progress)
        if due:
            _validate(session, progress)
            _save(session, progress, losses)
            since = time.monotonic()


def _inputs(session: Session, crops: Crops, first: int) -> Iterator[Inputs]:
    config, windows, ranks = session.config, session.windows, session.ranks
    loaded = batches(crops, config, session.runtime.workers, first, rank=ranks.rank, world_size=ranks.size)

    def make(batch: Batch, step: int) -> Inputs:
        modalities = session.network.config.modalities
        return make_inputs(batch, step, config, windows, ranks.device, ranks.rank, ranks.size, modalities)

    if session.runtime.speed.on(ranks.device).prefetch:
        return one_ahead(loaded, make, first)
    return (make(batch, step) for step, batch in enumerate(loaded, start=first))


def _step(session: Session, inputs: Inputs, step: int) -> torch.Tensor:
    return take_step(session.loss, session.optimizer, inputs, step, session.config, session.ranks)


def _save(session: Session, progress: Progress, losses: list[torch.Tensor]) -> None:
    kept = session.checkpoints
    progress.since_row = session.ranks.all_reduce(torch.stack(losses)).tolist() if losses else []
    if session.ranks.first and kept.save(session.network, session.optimizer, progress) and progress.validations:
        kept.drop_candidates_except(steps_in_play(progress.validations, session.config.validation.guard))


def _stop(progress: Progress) -> NoReturn:
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


def _log(session: Session, progress: Progress, losses: list[torch.Tensor], steps_per_s: float) -> None:
    config, step = session.config, progress.step
    loss = session.ranks.all_reduce(torch.stack(losses)).mean().item()
    row = {"step": step, "loss": loss, "learning_rate": learning_rate(step, config)}
    progress.losses.append(row)
    _send(session, "train", row)
    left_min = (config.steps - step) / steps_per_s / 60
    images_per_s = steps_per_s * config.batch_size
    line = "step %5d/%d  loss %.4f  lr %.2e  %.1f images/s  %.1f min left"
    log.info(line, step, config.steps, loss, row["learning_rate"], images_per_s, left_min)


def _validation_is_due(session: Session, progress: Progress) -> bool:
    step, config = progress.step, session.config
    done = progress.validations[-1]["step"] if progress.validations else 0
    return (step % config.validation.every_steps == 0 or step == config.steps) and step > done


def _validate(session: Session, progress: Progress) -> None:
    config, step, ranks = session.config.validation, progress.step, session.ranks
    with autocast(session.config.precision, ranks.device):
        figures = validate(session.network, session.store, session.windows, config, ranks)
    if figures is None:
        _stop(progress)
    progress.validations.append({"step": step, **figures})
    if ranks.first:
        session.checkpoints.save_candidate(session.network, step)
        _send(session, "val", progress.validations[-1])
        _send_pictures(session, step)
    mious = "  ".join(f"{name.removeprefix('miou_')} {value:.2f}" for name, value in figures.items() if "miou_" in name)
    best = "  best so far" if selected_step(progress.validations, config.guard) == step else ""
    log.info("step %5d  validation mIoU %%: %s  expected %.2f%s", step, mious, figures["expected_miou"], best)


def _send_pictures(session: Session, step: int) -> None:
    count, device = session.config.validation.pictures, session.ranks.device
    with autocast(session.config.precision, device):
        for tile, picture in pictures(session.network, session.store, session.windows, count, device):
            session.run.image(f"validation {tile}", picture, step)
