"""A submission: the graph, the values of its parameters, and the schedule. Wrong values fail here, not in a pod."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from components.common.errors import ParamsError
from pipeline.graphs import Graph, values

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a recurring run starts; exactly one of the fields is set."""

    cron: str | None = None  # six fields, seconds first, in the cluster's time zone
    every_s: int | None = None  # interval, seconds

    def __str__(self) -> str:
        return f"at {self.cron} (cron)" if self.cron else f"every {self.every_s} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A submission."""

    pipeline: str  # name of the pipeline in Kubeflow
    graph: str  # compiled graph, YAML
    version: str  # derived from the content of the graph, so that the same graph is uploaded only once
    values: Mapping[str, Any]  # parameter -> value, for every parameter of the graph
    experiment: str
    name: str  # of the run or recurring run; need not be unique
    namespace: str | None  # None: single-user cluster
    schedule: Schedule | None  # None: one run, now
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # identifies the runs of this submission

    def lines(self) -> list[str]:
        """Description of the submission for the terminal."""
        when = str(self.schedule) if self.schedule else "now"
        return [
            f"pipeline {self.pipeline}, version {self.version}, {len(self.graph) / 1000:.0f} kB",
            f"experiment {self.experiment}" + (f" in namespace {self.namespace}" if self.namespace else ""),
            f"{'recurring run' if self.schedule else 'run'} {self.name}, {when}",
            *(f"{name} = {value}" for name, value in self.values.items()),
        ]


def plan(
    graph: Graph,
    text: str,
    changes: Sequence[str],
    *,
    experiment: str,
    name: str | None = None,
    namespace: str | None = None,
    cron: str | None = None,
    every: str | None = None,
) -> Plan:
    """Check the user's input against the graph.

    Args:
        graph: the graph.
        text: the graph, compiled.
        changes: NAME=VALUE for each parameter that differs from its default.
        experiment: name of the experiment.
        name: name of the run; None: that of the pipeline with date and time.
        namespace: the user's namespace on a multi-user cluster; None: single-user cluster.
        cron: six fields, seconds first; None: no cron schedule.
        every: a number followed by s, m, h or d; None: no interval.

    Raises:
        ParamsError: a parameter is unknown, ill-typed or out of range, or the schedule is invalid.
    """
    given = values(text, changes)
    graph.check(given)
    return Plan(
        pipeline=graph.pipeline,
        graph=text,
        version=f"{graph.pipeline}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        values=given,
        experiment=experiment,
        name=name or f"{graph.pipeline} {datetime.now():%Y-%m-%d %H-%M-%S}",
        namespace=namespace,
        schedule=_schedule(cron, every),
    )


def _schedule(cron: str | None, every: str | None) -> Schedule | None:
    if cron is not None and every is not None:
        raise ParamsError("--cron and --every are both set; remove one of them")
    if cron is not None:
        if len(cron.split()) != 6:  # Kubeflow accepts five too, but reads the first as seconds and runs every hour
            raise ParamsError(
                f"--cron is {cron!r}; expected six fields, seconds first, for example '0 30 2 * * *' for 2:30"
            )
        return Schedule(cron=cron)
    if every is not None:
        found = re.fullmatch(r"([1-9]\d*)([smhd])", every)
        if found is None:
            raise ParamsError(f"--every is {every!r}; expected a number >= 1 and s, m, h or d, for example 12h")
        return Schedule(every_s=int(found[1]) * UNITS_S[found[2]])
    return None
