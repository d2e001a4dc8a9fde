"""Train the network on the training tiles of the store and select a checkpoint on the validation tiles.

Test tiles are never opened. The step runs as a single process or as one of several ranks that `torchrun` starts.
It needs torch, timm, numpy, pyarrow, pydantic, ruamel.yaml and safetensors, and MLflow only with
`runtime.tracking: mlflow`.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from components.common.data.store import Manifest, Store
from components.common.errors import DataError, NonFiniteError, ParamsError
from components.common.files import replacing, write_json
from components.common.inference.modelfile import InitialWeights, ModelFacts, save_model
from components.common.inference.precision import effective
from components.common.inference.windows import Windows
from components.common.tracking.provenance import git_commit, tool_version
from components.common.tracking.run import Run, open_run
from components.common.uncertainty.temperature import fit_temperatures
from components.train.checkpoints.checkpoint import Checkpoints, Progress, load, locked
from components.train.config import ModelParams, RuntimeConfig, TrainConfig
from components.train.copies import require_copies_per_rank
from components.train.identity import identity
from components.train.labelled_pixels import require_labelled_pixels
from components.train.loop import Session, fit
from components.train.optim import make_optimizer
from components.train.ranks.distributed import Ranks, open_ranks
from components.train.trained_tiles import require_sensors
from components.train.validation import selected_step
from components.train.weights.initial_weights import load_initial_weights
from model import MoBaNet
from model.dropout import share_batch
from model.gradients import without_gradient
from model.mobanet import count_parameters
from model.speed import SpeedConfig, autocast, prepare
from model.training_loss import TrainingLoss

log = logging.getLogger(__name__)

BEST = "best.safetensors"
"""Name of the selected model in the output folder."""

PARTS = {
    "encoder.cpia": "model.cpia",
    "encoder.dgfm": "model.dgfm",
    "encoder.backbone": "model.finetune",
    "encoder.dsm_patch_embedding": "model.modalities",
    "aux": "model.aux_heads",
}
"""Prefix of a weight's name -> the parameter that enables the weight."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of a training."""

    step: int  # selected step
    validation: dict[str, float]  # validation figures of that step, percent points
    mlflow_run_id: str | None


def run(
    config: TrainConfig, model: ModelParams, runtime: RuntimeConfig, store: Path, models: Path, checkpoints: Path
) -> TrainResult:
    """Train the network, or resume an interrupted run with the same parameters and data.

    Args:
        config: section `train`.
        model: section `model`.
        runtime: section `runtime`.
        store: folder that the preprocess step wrote.
        models: output folder for best.safetensors, selected.json, training.csv, validation.csv and
            run.json.
        checkpoints: folder for the checkpoints of this run.

    Raises:
        MobanetError: the store, the weights or a parameter is invalid.
        NonFiniteError: a loss, a gradient, a weight or a logit is not finite; the checkpoints have finite weights.
        SystemExit: with code 75, after SIGTERM; the checkpoint of the last step is written.
    """
    with open_ranks(runtime.device) as ranks, ExitStack() as held, ExitStack() as tracking:
        data = _open(store)
        ranks.broadcast(lambda: require_sensors(data, model.modalities))
        ranks.broadcast(lambda: require_labelled_pixels(data, config.labels))
        if len(model.modalities) == 2:
            require_copies_per_rank(config, ranks.size)
        network, start = _build(config, model, data, models)
        shaping = identity(config, network, start, data)
        ranks.require_same(shaping)
        speed = runtime.speed.on(ranks.device, ranks.size)
        single = _prepare(network, config, speed, ranks)
        optimizer = make_optimizer(network, config, speed.fused_optimizer)
        kept = Checkpoints(checkpoints, runtime.keep_checkpoints, shaping)
        ranks.broadcast(lambda: held.enter_context(locked(checkpoints)))
        held.callback(kept.close)  # before the folder is unlocked
        progress = _resume(kept, network, optimizer, ranks)
        tracked = _track(tracking, runtime, ranks, progress)
        windows = _windows(config, network, data.manifest)
        loss = ranks.data_parallel(single)
        session = Session(network, optimizer, config, runtime, data, windows, ranks, loss, kept, tracked)
        _describe(session, model, start, progress)
        fit(session, progress)
        step = selected_step(progress.validations, config.validation.guard)
        chosen = next(row for row in progress.validations if row["step"] == step)
        if ranks.first:
            _hand_over(session, progress, chosen, start, models)
            tracking.close()
            kept.finish()
    log.info("selected step %d: expected mIoU %.2f %%", step, chosen["expected_miou"])
    return TrainResult(step, _figures(chosen), progress.mlflow_run_id)


def _open(store: Path) -> Store:
    data = Store(store)
    if not data.manifest.subset("val"):
        raise DataError(
            f"{store}: split {data.manifest.split} has no validation tile, so no checkpoint can be selected; "
            "change data.split"
        )
    return data


def _build(config: TrainConfig, model: ModelParams, data: Store, models: Path) -> tuple[MoBaNet, InitialWeights]:
    torch.manual_seed(config.seed % 2**63)
    try:
        network = MoBaNet(model.network(len(data.manifest.classes), len(data.manifest.bands)))
    except ValueError as error:
        raise ParamsError(f"model.{error}") from None
    start = load_initial_weights(network, model, data.manifest, models / BEST)
    counts = count_parameters(network)["network"]
    log.info("%s: %.2f M weights, %.2f M trained", model.backbone, counts.total / 1e6, counts.trainable / 1e6)
    return network, start


def _prepare(network: MoBaNet, config: TrainConfig, speed: SpeedConfig, ranks: Ranks) -> TrainingLoss:
    """Prepare the network on its device and check that every trainable weight gets a gradient."""
    ranks.sync_batch_norms(network.to(ranks.device))
    share_batch(network, ranks.rank, ranks.size)
    prepare(network, effective(config.precision, ranks.device), speed)
    weights = {"paired_weight": config.masking.paired_weight, "distillation": config.masking.distillation}
    trial = TrainingLoss(network, config.precision, replace(speed, compile=False, cuda_graphs=False))
    try:
        missed = without_gradient(network, trial, config.aux_weight)
    except FloatingPointError:
        raise NonFiniteError(
            "the initial weights give a loss that is NaN or infinite, so training cannot start; check the file or name "
            "in model.weights and model.init, and train.aux_weight"
        ) from None
    if missed:
        part = next((key for prefix, key in PARTS.items() if missed[0].startswith(prefix)), "model")
        raise ParamsError(
            f"{part}: {len(missed)} trainable weights would get no gradient, the first is {missed[0]}; disable this "
            "part or correct the parameters it depends on (auxiliary heads need train.aux_weight > 0)"
        )
    return TrainingLoss(network, config.precision, speed, **weights)


def _resume(kept: Checkpoints, network: MoBaNet, optimizer: torch.optim.Optimizer, ranks: Ranks) -> Progress:
    """Load the state of an interrupted run. Rank 0 reads it for all ranks, so only one host needs the checkpoints."""
    found = ranks.broadcast(kept.latest)
    if found is None:
        return Progress()
    progress = load(found, network, optimizer)
    log.info("resuming from step %d (%s)", progress.step, kept.folder)
    return progress


def _track(stack: ExitStack, runtime: RuntimeConfig, ranks: Ranks, progress: Progress) -> Run:
    """Open the tracked run on rank 0 until the stack closes, and store its id in `progress` on every rank."""
    run, patient = Run(), progress.step > 0

    def begin() -> str | None:
        nonlocal run
        opened = open_run(
            runtime.tracking, experiment=runtime.experiment, run_id=progress.mlflow_run_id, patient=patient
        )
        run = stack.enter_context(opened)
        return run.id

    progress.mlflow_run_id = ranks.broadcast(begin)
    return run


def _describe(session: Session, model: ModelParams, start: InitialWeights, progress: Progress) -> None:
    """Log parameters and tags; the first checkpoint stores the run id, so that a resumed training finds the run."""
    data, ranks = session.store, session.ranks
    session.run.params(
        {"train": asdict(session.config), "model": asdict(model), "parameters": _counts(session.network)}
    )
    session.run.params({"ranks": ranks.size, "device": ranks.device.type})
    tags = {"git_commit": git_commit(), "data_md5": data.data_md5, "dataset": data.manifest.dataset}
    session.run.tags(tags | {"weights_source": start.source, "weights_licence": start.licence})
    if not progress.step:
        ranks.broadcast(lambda: session.checkpoints.save(session.network, session.optimizer, progress))
        ranks.broadcast(session.checkpoints.wait)


def _hand_over(
    session: Session, progress: Progress, chosen: Mapping[str, float], start: InitialWeights, models: Path
) -> None:
    """Write the selected network, its facts and the histories."""
    network, run = session.network, session.run
    session.checkpoints.load_candidate(network, int(chosen["step"]))
    facts = replace(_facts(session, chosen, start), temperature=_temperatures(session))
    save_model(models / BEST, network.float(), facts)
    _write_csv(models / "training.csv", progress.losses)
    _write_csv(models / "validation.csv", progress.validations)
    write_json(models / "selected.json", {"validation": {"step": facts.step, **facts.validation}})
    write_json(models / "run.json", {"mlflow_run_id": facts.mlflow_run_id})
    run.tags({"selected_step": facts.step})
    run.artifact(models / "validation.csv")


def _temperatures(session: Session) -> dict[str, float]:
    """Calibrate the selected network on the validation tiles, in the precision of the training."""
    entries, device = session.store.manifest.subset("val"), session.ranks.device
    with autocast(session.config.precision, device):
        return fit_temperatures(session.network.eval(), session.store, entries, session.windows, device)


def _figures(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}


def _windows(config: TrainConfig, network: MoBaNet, manifest: Manifest) -> Windows:
    return Windows.of(
        network,
        config.crop_px,
        stride_px=config.validation.stride_px,
        batch_size=config.validation.batch_size,
        image_mean=manifest.image_mean,
        image_std=manifest.image_std,
    )


def _counts(network: MoBaNet) -> dict[str, int]:
    counts = count_parameters(network)["network"]
    return {"total": counts.total, "trainable": counts.trainable, "frozen": counts.total - counts.trainable}


def _facts(session: Session, chosen: Mapping[str, float], start: InitialWeights) -> ModelFacts:
    config, network, data = session.config, session.network, session.store
    manifest = data.manifest
    return ModelFacts(
        network=network.config,
        classes=manifest.classes,
        in_means=manifest.in_means,
        palette=manifest.palette,
        bands=manifest.bands,
        gsd_m=manifest.gsd_m,
        heights=manifest.heights,
        image_range=manifest.image_range,
        image_mean=manifest.image_mean,
        image_std=manifest.image_std,
        window_px=session.windows.window_px,
        precision=effective(config.precision, session.ranks.device),
        frozen_bf16=config.precision == "bf16" and session.runtime.speed.frozen_bf16,
        dataset=manifest.dataset,
        source=manifest.source,
        split=manifest.split,
        acknowledgement=manifest.acknowledgement,
        accepted=dict(manifest.accepted),
        data_md5=data.data_md5,
        git_commit=git_commit(),
        tool_version=tool_version(),
        step=int(chosen["step"]),
        seed=config.seed,
        validation={name: value if math.isfinite(value) else None for name, value in _figures(chosen).items()},
        mlflow_run_id=session.run.id,
        initial_weights=start,
    )


def _write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    with replacing(path) as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
