"""The training loop: one step, one line of log; validate, select and checkpoint every so often."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from components.common.progress import track
from components.common.store import Store
from components.common.tracking import Run
from components.common.windows import Windows
from components.train.checkpoint import Checkpoints, Progress
from components.train.config import RuntimeConfig, TrainConfig
from components.train.data import Crops, batches
from components.train.inputs import Inputs, make_inputs, one_ahead
from components.train.optim import learning_rate, take_step
from components.train.validation import pictures, selected_step, steps_in_play, validate
from model import MoBaNet
from model.speed import Loss, autocast

log = logging.getLogger(__name__)

WATCHED = ("train/loss", "val/expected_miou")
"""One metric of each kind that the run gets."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a run works with."""

    network: MoBaNet
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    runtime: RuntimeConfig
    store: Store
    windows: Windows
    device: torch.device
    loss: Loss
    checkpoints: Checkpoints
    run: Run
    sent: Mapping[str, int]  # of WATCHED: the last step that the run has

    def send(self, values: Mapping[str, float], step: int) -> None:
        """Metrics to the run, unless it has this step already: an interrupted run got further than its checkpoint."""
        if step > max(self.sent[name] for name in values if name in self.sent):
            self.run.metrics(values, step)


def fit(session: Session, progress: Progress) -> None:
    """Train from `progress.step` to the last step; `progress` and the checkpoints are kept up to date."""
    config, runtime, network = session.config, session.runtime, session.network
    crops = Crops(session.store, session.store.manifest.subset("train"), config)
    losses: list[torch.Tensor] = []
    since = time.monotonic()
    network.train()
    first = progress.step + 1
    shown = track(_inputs(session, crops, first), "training", config.steps - progress.step, lines=False)
    for step, inputs in enumerate(shown, start=first):
        losses.append(_step(session, inputs, step))
        progress.step = step
        last = step == config.steps
        if step % runtime.log_every_steps == 0 or last:
            _log(session, progress, torch.stack(losses).mean().item(), len(losses) / (time.monotonic() - since))
            losses, since = [], time.monotonic()
        if step % config.validation.every_steps == 0 or last:
            _validate(session, progress)
            since = time.monotonic()
        if step % runtime.checkpoint_every_steps == 0 or step % config.validation.every_steps == 0 or last:
            session.checkpoints.save(network, session.optimizer, progress)


def _inputs(session: Session, crops: Crops, first: int) -> Iterator[Inputs]:
    config, windows, device = session.config, session.windows, session.device
    loaded = batches(crops, config, session.runtime.workers, first)
    if session.runtime.speed.on(device).prefetch:
        return one_ahead(loaded, lambda batch, step: make_inputs(batch, step, config, windows, device), first)
    return (make_inputs(batch, step, config, windows, device) for step, batch in enumerate(loaded, start=first))


def _step(session: Session, inputs: Inputs, step: int) -> torch.Tensor:
    return take_step(session.loss, session.optimizer, inputs, step, session.config)


def _log(session: Session, progress: Progress, loss: float, steps_per_s: float) -> None:
    config, step = session.config, progress.step
    row = {"step": step, "loss": loss, "learning_rate": learning_rate(step, config)}
    progress.losses.append(row)
    session.send({"train/loss": loss, "train/learning_rate": row["learning_rate"]}, step)
    left_min = (config.steps - step) / steps_per_s / 60
    images_per_s = steps_per_s * config.batch_size
    line = "step %5d/%d  loss %.4f  lr %.2e  %.1f images/s  %.1f min left"
    log.info(line, step, config.steps, loss, row["learning_rate"], images_per_s, left_min)


def _validate(session: Session, progress: Progress) -> None:
    config, step = session.config.validation, progress.step
    with autocast(session.config.precision, session.device):
        figures = validate(session.network, session.store, session.windows, config, session.device)
    progress.validations.append({"step": step, **figures})
    session.checkpoints.save_candidate(session.network, step)
    session.checkpoints.drop_candidates_except(steps_in_play(progress.validations, config.guard))
    session.send({f"val/{name}": value for name, value in figures.items()}, step)
    with autocast(session.config.precision, session.device):
        for tile, picture in pictures(session.network, session.store, session.windows, config.pictures, session.device):
            session.run.image(f"validation {tile}", picture, step)
    mious = "  ".join(f"{name.removeprefix('miou_')} {value:.2f}" for name, value in figures.items() if "miou_" in name)
    best = "  best so far" if selected_step(progress.validations, config.guard) == step else ""
    log.info("step %5d  validation mIoU %%: %s  expected %.2f%s", step, mious, figures["expected_miou"], best)
