"""Run a study: train and measure what is missing, then write tables and pictures.

In: a file of studies, params.yaml, a store. Out, in `out`: `runs/KEY/` for every training, shared by all studies, and
`STUDY/` with table.md, table.tex, results.json and the pictures. In MLflow, the study is a run and its trainings are
child runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from components.common.data.store import Store
from components.common.errors import DataError
from components.common.files import replacing, write_json
from components.common.params import section
from components.common.tracking.run import Run, new_runs_tagged, open_run
from components.evaluate.config import EvaluateConfig
from components.train.config import RuntimeConfig
from pipeline.ablation.plots import write_plots
from pipeline.ablation.results import SENSORS, Results, collect
from pipeline.ablation.studies import Job, Study, jobs, read_study
from pipeline.ablation.table import as_latex, as_markdown
from pipeline.ablation.trainings import SUBSETS, Setting, run_jobs


@dataclass(frozen=True, slots=True)
class Plan:
    """A study that is checked and ready to run."""

    study: Study
    jobs: list[Job]
    setting: Setting
    folder: Path  # folder of the study


def plan(name: str, studies: Path, params: Path, seeds: Sequence[int], store: Path, out: Path, workers: int) -> Plan:
    """Read and check everything; nothing is trained or written.

    Args:
        name: name of the study.
        studies: file of studies that contains it.
        params: params.yaml.
        seeds: seeds; each variant is trained with each.
        store: folder of the store.
        out: output folder, for `runs/` and a folder per study.
        workers: number of parallel trainings.

    Raises:
        MobanetError: the study, a parameter or the store is unusable.
    """
    study, data = read_study(studies, name), Store(store)
    planned = jobs(study, params, seeds, data, out / "runs")
    _require_tiles(data, planned)
    runtime = section(params, "runtime", RuntimeConfig)
    setting = Setting(
        study=name,
        runtime=replace(runtime, experiment=f"{runtime.experiment}-ablation"),
        evaluate=section(params, "evaluate", EvaluateConfig),
        store=store,
        workers=workers,
    )
    return Plan(study, planned, setting, out / name)


def _require_tiles(store: Store, planned: Sequence[Job]) -> None:
    """Refuse tiles on which a network cannot be scored with all its sensors; it is selected and compared by that."""
    manifest = store.manifest
    networks = {job.model.modalities for job in planned}
    for subset in SUBSETS:
        found = [set(entry.sensors) for entry in manifest.subset(subset)]
        for modalities in networks:
            if not any(set(modalities) <= sensors for sensors in found):
                lacking = " and ".join(SENSORS[sensor] for sensor in modalities)
                raise DataError(
                    f"{store.path}: the split {manifest.split} has no {subset} tile with {lacking}, which the study "
                    "needs; use another split"
                )


def run_study(plan: Plan) -> Results:
    """Train and measure what is missing, write tables and pictures, and return the results.

    Raises:
        MobanetError: a training fails, or MLflow cannot be reached.
    """
    setting = replace(plan.setting, parent_run=_parent(plan))
    results = collect(setting.study, plan.study, plan.jobs, setting, run_jobs(plan.jobs, setting))
    files = _write(results, plan.folder)
    with _open(setting, setting.parent_run) as run:
        for path in files:
            run.artifact(path)
        run.tags({"chosen": results.chosen})
    return results


def _parent(plan: Plan) -> str | None:
    """Id of the study's MLflow run, which is new or from an earlier call; closed, so that child runs can be opened."""
    memory = plan.folder / "mlflow.json"
    known = json.loads(memory.read_text())["run_id"] if memory.exists() else None
    with new_runs_tagged({"mlflow.runName": plan.setting.study}), _open(plan.setting, known) as run:
        run.tags({"about": plan.study.about, "variants": json.dumps(plan.study.variants)})
    if run.id is not None:
        write_json(memory, {"run_id": run.id})
    return run.id


def _open(setting: Setting, run_id: str | None) -> AbstractContextManager[Run]:
    return open_run(setting.runtime.tracking, experiment=setting.runtime.experiment, run_id=run_id)


def _write(results: Results, folder: Path) -> list[Path]:
    texts = {"table.md": as_markdown(results), "table.tex": as_latex(results)}
    for name, text in texts.items():
        with replacing(folder / name) as draft:
            draft.write_text(text)
    write_json(folder / "results.json", results.document())
    return [*(folder / name for name in texts), folder / "results.json", *write_plots(results, folder)]
