"""Plan -> pipeline, pipeline version, experiment, and run or recurring run on the server."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kfp_server_api as kfp

from pipeline.submission.api import Server
from pipeline.submission.submission import Plan, Schedule

log = logging.getLogger(__name__)

UI = "KF_PIPELINES_UI_ENDPOINT"
"""kfp's environment variable for the URL of the UI, if it differs from that of the API."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A started run or recurring run."""

    id: str  # id on the server
    address: str  # URL of its page in the UI


def send(server: Server, plan: Plan) -> Sent:
    """Create what does not exist yet, and start the run.

    Raises:
        ServerError: the server does not answer, or rejects a request.
    """
    pipeline = _pipeline(server, plan)
    body = {
        "display_name": plan.name,
        "description": f"mobanet pipeline submit, {plan.key}",
        "experiment_id": _experiment(server, plan),
        "pipeline_version_reference": kfp.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=_version(server, plan, pipeline)
        ),
        "runtime_config": kfp.V2beta1RuntimeConfig(parameters=dict(plan.values)),
    }
    if plan.schedule is None:
        id_, page = _run(server, body), "runs/details"
    else:
        id_, page = _recurring_run(server, plan.schedule, body), "recurringrun/details"
    return Sent(id_, f"{os.environ.get(UI, server.host).rstrip('/')}/#/{page}/{id_}")


def _pipeline(server: Server, plan: Plan) -> str:
    api = kfp.PipelineServiceApi(server.api)
    wanted = kfp.V2beta1Pipeline(name=plan.pipeline, namespace=plan.namespace)
    pipelines = _Kind("pipelines", api.pipeline_service_list_pipelines, api.pipeline_service_create_pipeline, ("name",))
    return _ensured(server, pipelines, wanted, namespace=plan.namespace).pipeline_id


def _version(server: Server, plan: Plan, pipeline: str) -> str:
    api, uploads = kfp.PipelineServiceApi(server.api), kfp.PipelineUploadServiceApi(server.api)

    def upload(version: Any, **options: Any) -> Any:
        log.info("uploading version %s of the pipeline %s", version.name, plan.pipeline)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{plan.pipeline}.yaml"  # the server checks the file extension
            file.write_text(plan.graph)
            return uploads.upload_pipeline_version(str(file), name=version.name, pipelineid=pipeline, **options)

    wanted = kfp.V2beta1PipelineVersion(name=plan.version)
    versions = _Kind("pipeline_versions", api.pipeline_service_list_pipeline_versions, upload, ("name",))
    return _ensured(server, versions, wanted, pipeline_id=pipeline).pipeline_version_id


def _experiment(server: Server, plan: Plan) -> str:
    api = kfp.ExperimentServiceApi(server.api)
    wanted = kfp.V2beta1Experiment(display_name=plan.experiment, namespace=plan.namespace)
    listed, create = api.experiment_service_list_experiments, api.experiment_service_create_experiment
    experiments = _Kind("experiments", listed, create, ("display_name",))
    return _ensured(server, experiments, wanted, namespace=plan.namespace).experiment_id


def _run(server: Server, body: dict[str, Any]) -> str:
    api, wanted = kfp.RunServiceApi(server.api), kfp.V2beta1Run(**body)
    runs = _Kind("runs", api.run_service_list_runs, api.run_service_create_run, ("display_name", "description"))
    return _ensured(server, runs, wanted, experiment_id=wanted.experiment_id).run_id


def _recurring_run(server: Server, schedule: Schedule, body: dict[str, Any]) -> str:
    if schedule.cron is not None:
        trigger = kfp.V2beta1Trigger(cron_schedule=kfp.V2beta1CronSchedule(cron=schedule.cron))
    else:
        period = kfp.V2beta1PeriodicSchedule(interval_second=str(schedule.every_s))
        trigger = kfp.V2beta1Trigger(periodic_schedule=period)
    wanted = kfp.V2beta1RecurringRun(
        **body,
        trigger=trigger,
        mode=kfp.RecurringRunMode.ENABLE,
        max_concurrency="1",  # two trainings of one schedule would compete for the same GPUs
        no_catchup=True,  # after a pause start one run, not one per missed time
    )
    api = kfp.RecurringRunServiceApi(server.api)
    listed, create = api.recurring_run_service_list_recurring_runs, api.recurring_run_service_create_recurring_run
    recurring_runs = _Kind("recurring_runs", listed, create, ("display_name", "description"))
    return _ensured(server, recurring_runs, wanted, experiment_id=wanted.experiment_id).recurring_run_id


class _Kind(NamedTuple):
    """A type of object on the server."""

    name: str  # field of the answer of `listed`
    listed: Callable[..., Any]
    create: Callable[..., Any]
    identity: tuple[str, ...]  # fields that identify an object; the first one is its name


def _ensured(server: Server, kind: _Kind, wanted: Any, **where: Any) -> Any:
    """Find the wanted object on the server or create it; `where` narrows the search."""
    key = kind.identity[0]
    equal = {"operation": "EQUALS", "key": key, "stringValue": getattr(wanted, key)}
    query = {"filter": json.dumps({"predicates": [equal]}), "sort_by": "created_at desc", "page_size": 100}

    def find() -> Any | None:
        found = getattr(server.once(kind.listed, **where, **query), kind.name) or ()
        same = (one for one in found if all(getattr(one, name) == getattr(wanted, name) for name in kind.identity))
        return next(same, None)

    return server.ensure(find, lambda: server.once(kind.create, wanted))
