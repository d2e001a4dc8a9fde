"""The graphs `train`, `predict` and `watch`: how each is built, and how the values of its parameters are checked.

kfp is imported only when a graph is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.errors import ParamsError
from components.common.yaml_files import parse_yaml
from components.predict.publication.scene_tasks import order_of
from components.watch.config import order_of as watch_order_of
from pipeline.form import LIMIT, check_memory, checked, defaults, section_text
from pipeline.local_files import Places, prediction_places, training_places, watch_places
from pipeline.resources import PREDICTION_RESOURCES, RESOURCES, WATCH_RESOURCES, Resources


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A graph that the commands compile, run and submit."""

    pipeline: str  # its name in Kubeflow
    resources: Mapping[str, Resources]  # task -> resources, in the order in which tasks are shown
    build: Callable[..., Any]  # params file, image, resources, claim, storage class -> pipeline of kfp
    check: Callable[[Mapping[str, Any]], object]  # raises ParamsError if a task would reject a value
    places: Callable[[Mapping[str, Any]], Places]  # files and folders of this machine that the values name


def graph(name: str) -> Graph:
    """A graph by its name on the command line.

    Raises:
        ParamsError: there is no such graph.
    """
    if name not in GRAPHS:
        raise ParamsError(f"there is no graph {name!r}; expected one of {', '.join(GRAPHS)}")
    return GRAPHS[name]


def _training(params: Path, *arguments: Any) -> Any:
    from pipeline.graph import build

    return build(defaults(params), *arguments)


def _prediction(params: Path, *arguments: Any) -> Any:
    from pipeline.prediction_graph import build_prediction

    return build_prediction(section_text(params, "predict"), section_text(params, "trust"), *arguments)


def _watch(params: Path, *arguments: Any) -> Any:
    from pipeline.watch_graph import build_watch

    return build_watch(section_text(params, "watch"), *arguments)


def _check_prediction(values: Mapping[str, Any]) -> None:
    order_of(values)
    check_memory(memory=values["memory"])
    if values["gpus"] not in (0, 1):
        raise ParamsError(f"gpus is {values['gpus']}; expected 0 or 1, as a task uses one GPU; increase parts instead")


def _check_watch(values: Mapping[str, Any]) -> None:
    watch_order_of(values, Path())
    check_memory(memory=values["memory"])


GRAPHS = {
    "train": Graph(pipeline="mobanet", resources=RESOURCES, build=_training, check=checked, places=training_places),
    "predict": Graph(
        pipeline="mobanet-predict",
        resources=PREDICTION_RESOURCES,
        build=_prediction,
        check=_check_prediction,
        places=prediction_places,
    ),
    "watch": Graph(
        pipeline="mobanet-watch",
        resources=WATCH_RESOURCES,
        build=_watch,
        check=_check_watch,
        places=watch_places,
    ),
}
"""Graphs by their name on the command line."""


def values(text: str, changes: Sequence[str]) -> dict[str, Any]:
    """Parameter -> value, for every parameter of a compiled graph.

    Args:
        text: result of `graph.compiled`.
        changes: NAME=VALUE for each parameter that differs from its default.

    Raises:
        ParamsError: a parameter is unknown or given twice, or its value has another type.
    """
    inputs = parse_yaml(text.partition("\n---\n")[0], "the compiled graph")["root"]["inputDefinitions"]["parameters"]
    found = {name: _TYPES[given["parameterType"]][1](given["defaultValue"]) for name, given in inputs.items()}
    changed: set[str] = set()
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in inputs:
            raise ParamsError(f"--set is {change!r}; expected NAME=VALUE, where NAME is one of {', '.join(inputs)}")
        if name in changed:
            raise ParamsError(f"--set gives {name} twice; remove one of them")
        if len(value) > LIMIT:
            raise ParamsError(f"--set {name} has {len(value)} characters; shorten it to {LIMIT}, Kubeflow's limit")
        spelled, read = _TYPES[inputs[name]["parameterType"]]
        try:
            found[name] = read(value)
        except ValueError:
            raise ParamsError(f"--set {name} is {value!r}; expected {spelled}") from None
        changed.add(name)
    return found


def _boolean(value: str | bool) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError
    return str(value).lower() == "true"


_TYPES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "STRING": ("a string", str),
    "NUMBER_INTEGER": ("a whole number", int),
    "NUMBER_DOUBLE": ("a number", float),
    "BOOLEAN": ("true or false", _boolean),
}
"""Type in a compiled graph -> its name in messages, and a parser of strings and of the graph's default values."""
