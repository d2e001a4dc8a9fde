"""Train the network on the store's training tiles; validation tiles choose the checkpoint, test tiles are never opened.

Needs torch, timm, numpy, pyarrow, pyyaml and safetensors; MLflow only with `runtime.tracking: mlflow`.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from components.common.errors import DataError, ParamsError
from components.common.files import replacing, write_json
from components.common.modelfile import ModelFacts, save_model
from components.common.provenance import git_commit, tool_version
from components.common.store import Manifest, Store
from components.common.tracking import open_run
from components.common.windows import Windows
from components.train.backbone_weights import load_backbone_weights
from components.train.checkpoint import Checkpoints, Progress, run_key
from components.train.config import ModelParams, RuntimeConfig, TrainConfig
from components.train.loop import WATCHED, Session, fit
from components.train.optim import make_optimizer
from components.train.validation import selected_step
from model import MoBaNet
from model.inputs import padded_side
from model.mobanet import count_parameters
from model.speed import loss_function, prepare

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training came to."""

    step: int  # selected
    validation: dict[str, float]  # its figures, percent points
    mlflow_run_id: str | None


def run(
    config: TrainConfig, model: ModelParams, runtime: RuntimeConfig, store: Path, models: Path, checkpoints: Path
) -> TrainResult:
    """Train, or go on where an interrupted run of the same parameters and data stopped.

    Args:
        config: section `train`.
        model: section `model`.
        runtime: section `runtime`.
        store: folder that preprocess wrote.
        models: gets best.safetensors, training.csv, validation.csv and run.json.
        checkpoints: gets one folder per run.

    Raises:
        MobanetError: the store, the weights or a parameter is unusable.
    """
    data = Store(store)
    if not data.manifest.subset("val"):
        raise DataError(
            f"{store}: the split {data.manifest.split} has no validation tile; a checkpoint cannot be selected"
        )
    network, weights_id = _build(config, model, data)
    device = _device(runtime)
    speed = runtime.speed.on(device)
    prepare(network.to(device), config.precision, speed)
    optimizer = make_optimizer(network, config, speed.fused_optimizer)
    kept = Checkpoints(checkpoints / run_key(_shaping(config, network, weights_id, data)), runtime.keep_checkpoints)
    progress = kept.restore(network, optimizer)
    if progress.step:
        log.info("going on from step %d of %d (%s)", progress.step, config.steps, kept.folder)
    loss = loss_function(network, config.precision, speed, config.aux_weight)
    windows = _windows(config, network, data.manifest)
    with open_run(runtime.tracking, experiment=runtime.experiment, run_id=progress.mlflow_run_id) as tracked:
        progress.mlflow_run_id = tracked.id
        commit = git_commit()
        tracked.params({"train": asdict(config), "model": asdict(model), "parameters": _counts(network)})
        tracked.tags({"git_commit": commit, "data_md5": data.data_md5, "dataset": data.manifest.dataset})
        kept.save(network, optimizer, progress)  # from here on the MLflow run is known to a resumed one
        sent = {name: tracked.last_step(name) for name in WATCHED}
        fit(Session(network, optimizer, config, runtime, data, windows, device, loss, kept, tracked, sent), progress)
        step = selected_step(progress.validations, config.validation.guard)
        kept.load_candidate(network, step)
        chosen = next(row for row in progress.validations if row["step"] == step)
        facts = _facts(config, network, data, commit, chosen, tracked.id)
        _write_outputs(models, network.float(), facts, progress)
        tracked.tags({"selected_step": step})
        tracked.artifact(models / "validation.csv")
    kept.finish()
    log.info("selected step %d: expected mIoU %.2f %%", step, chosen["expected_miou"])
    return TrainResult(step, facts.validation, facts.mlflow_run_id)


def _build(config: TrainConfig, model: ModelParams, data: Store) -> tuple[MoBaNet, str]:
    torch.manual_seed(config.seed)
    try:
        network = MoBaNet(model.network(len(data.manifest.classes), len(data.manifest.bands)))
    except ValueError as error:
        raise ParamsError(f"model.{error}") from None
    weights_id = load_backbone_weights(network, model.weights)
    counts = count_parameters(network)["network"]
    log.info("%s: %.2f M weights, %.2f M trained", model.backbone, counts.total / 1e6, counts.trainable / 1e6)
    return network, weights_id


def _device(runtime: RuntimeConfig) -> torch.device:
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise ParamsError("runtime.device is cuda, but torch sees no GPU here; set it to auto or cpu")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if runtime.device == "auto" else runtime.device
    log.info(
        "training on %s", torch.cuda.get_device_name() if name == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    )
    return torch.device(name)


def _windows(config: TrainConfig, network: MoBaNet, manifest: Manifest) -> Windows:
    return Windows(
        window_px=config.crop_px,
        stride_px=config.validation.stride_px,
        batch_size=config.validation.batch_size,
        patch_size=network.patch_size,
        image_mean=manifest.image_mean,
        image_std=manifest.image_std,
    )


def _shaping(config: TrainConfig, network: MoBaNet, weights_id: str, data: Store) -> dict[str, Any]:
    return {"train": asdict(config), "network": asdict(network.config), "weights": weights_id, "data": data.data_md5}


def _counts(network: MoBaNet) -> dict[str, int]:
    counts = count_parameters(network)["network"]
    return {"total": counts.total, "trainable": counts.trainable, "frozen": counts.total - counts.trainable}


def _facts(
    config: TrainConfig,
    network: MoBaNet,
    data: Store,
    commit: str,
    chosen: Mapping[str, float],
    mlflow_run_id: str | None,
) -> ModelFacts:
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
        window_px=padded_side(config.crop_px, network.patch_size),
        dataset=manifest.dataset,
        source=manifest.source,
        split=manifest.split,
        acknowledgement=manifest.acknowledgement,
        data_md5=data.data_md5,
        git_commit=commit,
        tool_version=tool_version(),
        step=int(chosen["step"]),
        seed=config.seed,
        validation={name: value for name, value in chosen.items() if name != "step"},
        mlflow_run_id=mlflow_run_id,
    )


def _write_outputs(models: Path, network: MoBaNet, facts: ModelFacts, progress: Progress) -> None:
    save_model(models / "best.safetensors", network, facts)
    _write_csv(models / "training.csv", progress.losses)
    _write_csv(models / "validation.csv", progress.validations)
    write_json(models / "run.json", {"mlflow_run_id": facts.mlflow_run_id})


def _write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    with replacing(path) as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
