"""Train the jobs of a study, and measure each on validation and test tiles. Finished jobs are skipped.

In: jobs, the store. Out: one folder per training with `models/`, `result.json` and, for parallel trainings, `log.txt`.
An interrupted training resumes from its `checkpoints/`, which are deleted when `result.json` is written.
If the protocol (section `evaluate`) has changed, the same weights are measured again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from components.common.data.datasets import Subset
from components.common.data.store import Store
from components.common.files import with_nan, without_nan, write_json
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.inference.precision import training_precision
from components.common.pool import cores, pooled
from components.common.progress import track
from components.common.tracking.run import new_runs_tagged, open_run
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import windows_of
from components.train.config import RuntimeConfig
from components.train.step import run as train
from pipeline.ablation.studies import Job
from pipeline.ablation.subset_figures import subset_figures

log = logging.getLogger(__name__)

SUBSETS: tuple[Subset, ...] = ("val", "test")
"""Variants are selected on validation tiles. Test tiles are for information and never influence the selection."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings shared by all trainings of a study."""

    study: str
    runtime: RuntimeConfig
    evaluate: EvaluateConfig
    store: Path
    workers: int  # number of parallel trainings
    parent_run: str | None = None  # MLflow run of the study; None: not tracked


@dataclass(frozen=True, slots=True)
class Result:
    """A measured training."""

    variant: str
    seed: int
    folder: str  # name of its folder
    step: int  # step of the selected checkpoint
    window_px: int  # side of a window, pixels
    git_commit: str  # commit of the code that trained
    mlflow_run_id: str | None
    figures: dict[str, dict[str, float]]  # subset -> figure -> value


def run_jobs(jobs: Sequence[Job], setting: Setting) -> list[Result]:
    """Train and measure the jobs that are not done, and return the results of all jobs in order.

    Raises:
        MobanetError: a training failed; the results of finished trainings stay.
    """
    todo = [job for job in jobs if read_result(job, setting) is None]
    log.info("%s: %d trainings, %d already done", setting.study, len(jobs), len(jobs) - len(todo))
    done = pooled(partial(_measure, setting), todo, setting.workers)
    for result in track(done, f"study {setting.study}", len(todo), lines=False):
        found = result.figures["val"]
        scores = f"mIoU {found['miou']:.2f}  expected {found['expected_miou']:.2f}"
        log.info("%s, seed %d: step %d, validation %s", result.variant, result.seed, result.step, scores)
    return [known for job in jobs if (known := read_result(job, setting))]


def read_result(job: Job, setting: Setting) -> Result | None:
    """Result of an earlier call; None: there is none, or it was measured with another protocol."""
    try:
        content: dict[str, Any] = json.loads((job.folder / "result.json").read_text())
    except FileNotFoundError:
        return None
    if content.pop("evaluate") != asdict(setting.evaluate):
        return None
    content["figures"] = {subset: with_nan(row) for subset, row in content["figures"].items()}
    return Result(variant=job.variant, seed=job.train.seed, folder=job.folder.name, **content)


def state(job: Job, setting: Setting) -> str:
    """State of a job, for the terminal."""
    if read_result(job, setting):
        return "done"
    if _weights(job).exists():
        return "trained, not measured"
    return "interrupted, will resume" if (job.folder / "checkpoints").exists() else "not trained"


def _weights(job: Job) -> Path:
    return job.folder / "models" / "best.safetensors"


def _measure(setting: Setting, job: Job) -> Result:
    with _own_log(job.folder):
        if setting.workers > 1:
            torch.set_num_threads(max(1, cores() // setting.workers))
        if not _weights(job).exists():
            models, checkpoints = _weights(job).parent, _checkpoints(job)
            with new_runs_tagged(_tags(setting, job)):
                train(job.train, job.model, setting.runtime, setting.store, models, checkpoints)
        _write(setting, job, *_figures(setting, _weights(job)))
    measured = read_result(job, setting)
    assert measured is not None
    return measured


def _checkpoints(job: Job) -> Path:
    return job.folder / "checkpoints"


def _tags(setting: Setting, job: Job) -> dict[str, str]:
    parent = {"mlflow.parentRunId": setting.parent_run} if setting.parent_run else {}
    name = f"{job.variant}, seed {job.train.seed}"
    return parent | {"mlflow.runName": name, "study": setting.study, "variant": job.variant}


def _figures(setting: Setting, weights: Path) -> tuple[ModelFacts, int, dict[str, dict[str, float]]]:
    network, facts = load_model(weights)
    config, store = setting.evaluate, Store(setting.store)
    windows = windows_of(config, network, facts)
    use_gpu = torch.cuda.is_available() and setting.runtime.device != "cpu"
    device = torch.device("cuda" if use_gpu else "cpu")
    network.to(device)
    p = config.failure_probability
    with training_precision(network, facts, device):
        found: dict[str, dict[str, float]] = {
            subset: subset_figures(network, store, subset, windows, device, p) for subset in SUBSETS
        }
    return facts, windows.window_px, found


def _write(setting: Setting, job: Job, facts: ModelFacts, window_px: int, found: dict[str, dict[str, float]]) -> None:
    """Write the result to disk and to the training's MLflow run, then delete its checkpoints."""
    runtime = setting.runtime
    backend = "none" if facts.mlflow_run_id is None else runtime.tracking
    with open_run(backend, experiment=runtime.experiment, run_id=facts.mlflow_run_id) as run:
        flat = {f"ablation/{subset}/{name}": value for subset, row in found.items() for name, value in row.items()}
        run.metrics(flat, facts.step)
    content = {
        "step": facts.step,
        "window_px": window_px,
        "git_commit": facts.git_commit,
        "mlflow_run_id": facts.mlflow_run_id,
        "figures": without_nan(found),
        "evaluate": asdict(setting.evaluate),
    }
    write_json(job.folder / "result.json", content)
    shutil.rmtree(_checkpoints(job), ignore_errors=True)


@contextlib.contextmanager
def _own_log(folder: Path) -> Iterator[None]:
    """In a worker process, write logs to a separate file, so that the lines of parallel trainings do not mix."""
    if multiprocessing.parent_process() is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", buffering=1) as file, contextlib.redirect_stderr(file):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=file, force=True)
        yield
