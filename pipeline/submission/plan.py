"""What is to be sent: a graph, the values of its parameters, and when it runs. Wrong values end here, not in a pod."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from components.common.errors import ParamsError
from pipeline.form import LIMIT, checked

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a recurring run starts: one of the two."""

    cron: str | None = None  # six fields, the first is seconds, in the cluster's time zone
    every_s: int | None = None

    def __str__(self) -> str:
        return f"at {self.cron} (cron)" if self.cron else f"every {self.every_s} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A submission."""

    graph: str  # compiled
    version: str  # named by the content of the graph, so that the same graph is uploaded once
    values: Mapping[str, Any]  # of every parameter of the graph
    experiment: str
    name: str  # of the run or recurring run; Kubeflow asks for no unique one
    namespace: str | None  # None: the cluster has one user
    schedule: Schedule | None  # None: one run, now
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # by which a run is known to be of this submission

    def lines(self) -> list[str]:
        """What is sent, for people."""
        when = str(self.schedule) if self.schedule else "now"
        return [
            f"pipeline mobanet, version {self.version}, {len(self.graph) / 1000:.0f} kB",
            f"experiment {self.experiment}" + (f" in namespace {self.namespace}" if self.namespace else ""),
            f"{'recurring run' if self.schedule else 'run'} {self.name}, {when}",
            *(f"{name} = {value}" for name, value in self.values.items()),
        ]


def plan(
    graph: str,
    changes: Sequence[str],
    *,
    experiment: str,
    name: str | None = None,
    namespace: str | None = None,
    cron: str | None = None,
    every: str | None = None,
) -> Plan:
    """Check what a user asks for against the graph.

    Args:
        graph: as `graph.compiled` gives it.
        changes: NAME=VALUE of parameters that differ from their defaults.
        experiment: name.
        name: of the run; None: one with the time of day.
        namespace: of a cluster with many users.
        cron: six fields; None: no such schedule.
        every: a number and s, m, h or d; None: no such schedule.

    Raises:
        ParamsError: a parameter is unknown, ill-typed or out of range, or a schedule is none.
    """
    return Plan(
        graph=graph,
        version=f"mobanet-{hashlib.sha256(graph.encode()).hexdigest()[:12]}",
        values=_values(graph, changes),
        experiment=experiment,
        name=name or f"mobanet {datetime.now():%Y-%m-%d %H-%M-%S}",
        namespace=namespace,
        schedule=_schedule(cron, every),
    )


def _values(graph: str, changes: Sequence[str]) -> dict[str, Any]:
    """Every parameter of the graph with its value, checked as the first task of a run will check it."""
    inputs = next(yaml.safe_load_all(graph))["root"]["inputDefinitions"]["parameters"]
    values = {name: _TYPES[given["parameterType"]][1](given["defaultValue"]) for name, given in inputs.items()}
    changed: set[str] = set()
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in inputs:
            raise ParamsError(f"--set is {change!r}; expected NAME=VALUE, where NAME is one of {', '.join(inputs)}")
        if name in changed:
            raise ParamsError(f"--set gives {name} twice; keep one of them")
        if len(text) > LIMIT:
            raise ParamsError(f"--set {name} has {len(text)} characters; Kubeflow takes {LIMIT}")
        spelled, read = _TYPES[inputs[name]["parameterType"]]
        try:
            values[name] = read(text)
        except ValueError:
            raise ParamsError(f"--set {name} is {text!r}; expected {spelled}") from None
        changed.add(name)
    checked(values)
    return values


def _boolean(value: str | bool) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError
    return str(value).lower() == "true"


_TYPES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "STRING": ("a text", str),
    "NUMBER_INTEGER": ("a whole number", int),
    "NUMBER_DOUBLE": ("a number", float),
    "BOOLEAN": ("true or false", _boolean),
}
"""Type in a compiled graph -> its name, and what reads it: from a text, or from the graph, where numbers are floats."""


def _schedule(cron: str | None, every: str | None) -> Schedule | None:
    if cron is not None and every is not None:
        raise ParamsError("--cron and --every are both given; keep one of them")
    if cron is not None:
        if len(cron.split()) != 6:  # Kubeflow takes five as well, but reads the first as seconds and runs every hour
            raise ParamsError(
                f"--cron is {cron!r}; expected six fields, of which the first is seconds, e.g. '0 30 2 * * *' for 2:30"
            )
        return Schedule(cron=cron)
    if every is not None:
        found = re.fullmatch(r"([1-9]\d*)([smhd])", every)
        if found is None:
            raise ParamsError(f"--every is {every!r}; expected a number from 1 up and s, m, h or d, e.g. 12h")
        return Schedule(every_s=int(found[1]) * UNITS_S[found[2]])
    return None
