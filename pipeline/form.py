"""The parameters of a run in Kubeflow: a form with what is changed often, and one text with the rest of params.yaml.

In: a params file. Out: the defaults of the pipeline's parameters. And back, in the first task of a run: the form and
the text -> every section, checked, as JSON. A key stands in the form or in the text, never in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.acquire.step import SampleConfig
from components.check.config import CheckConfig
from components.common.data.config import DataConfig
from components.common.errors import ParamsError
from components.common.params import from_mapping, read_yaml
from components.evaluate.step import EvaluateConfig
from components.export.step import ExportConfig
from components.preprocess.step import PreprocessConfig
from components.register.step import RegisterConfig
from components.train.config import ModelParams, RuntimeConfig, TrainConfig

SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "sample": SampleConfig,
    "check": CheckConfig,
    "preprocess": PreprocessConfig,
    "model": ModelParams,
    "train": TrainConfig,
    "runtime": RuntimeConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "register": RegisterConfig,
}
"""Section of params.yaml -> the class that it must fit."""

FORM = {
    "data_source": "data.source",
    "data_dataset": "data.dataset",
    "data_split": "data.split",
    "data_path": "data.path",
    "data_repo": "data.repo",
    "data_rev": "data.rev",
    "model_backbone": "model.backbone",
    "model_weights": "model.weights",
    "train_steps": "train.steps",
    "train_batch_size": "train.batch_size",
    "train_seed": "train.seed",
    "register_promote": "register.promote",
}
"""Parameter of the pipeline -> key of params.yaml. An empty text in the form is null."""

LIMIT = 10_000
"""Characters that Kubeflow takes for one parameter."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a params file says."""

    form: dict[str, Any]  # by parameter of the pipeline
    text: str  # the rest, as YAML in one line: kfp writes it into a comment as well


def defaults(params: Path) -> Defaults:
    """A params file, taken apart.

    Raises:
        ParamsError: the file does not fit, or is longer than Kubeflow can take.
    """
    document = deepcopy(dict(read_yaml(params)))
    _check(document, str(params))
    form = {}
    for parameter, key in FORM.items():
        name, field = key.split(".")
        value = document[name].pop(field)
        form[parameter] = "" if value is None else value
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=True, width=LIMIT).strip()
    if len(text) > LIMIT:
        raise ParamsError(f"{params}: {len(text)} characters without the keys of the form; Kubeflow takes {LIMIT}")
    return Defaults(form, text)


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the first task of a run answers: every section as JSON, and `pod_gpus`.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        ParamsError: a value is none with which the run could go to its end.
    """
    check_memory(**{name: values[name] for name in ("train_memory", "evaluate_memory")})
    gpus = pod_gpus(values["train_nodes"], values["train_gpus"], values["train_batch_size"])
    return {**sections(values, values["params"]), "pod_gpus": gpus}


def sections(form: Mapping[str, Any], text: str) -> dict[str, str]:
    """Every section as JSON.

    Args:
        form: parameter of the pipeline -> value; others than those of `FORM` are passed over.
        text: the rest, as YAML.

    Raises:
        ParamsError: a key or a value is wrong, or a key stands in the form and in the text.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ParamsError(f"params: not valid YAML ({getattr(error, 'problem', None) or error}); mend it") from None
    for parameter, key in FORM.items():
        name, field = key.split(".")
        section = document.get(name) if isinstance(document, dict) else None
        if not isinstance(section, dict):
            raise ParamsError(f"params: the section {name} is missing; compare with the params.yaml of the project")
        if field in section:
            raise ParamsError(f"params: {key} is given twice; remove it here, {parameter} in the form says it")
        section[field] = None if form[parameter] == "" else form[parameter]
    _check(document, "params")
    return {name: json.dumps(document[name]) for name in SECTIONS}


def pod_gpus(nodes: int, gpus: int, batch_size: int) -> int:
    """GPUs that the pod of the task train asks for: with several nodes it launches other pods, and needs none.

    Args:
        nodes: that train together.
        gpus: of each of them.
        batch_size: crops of all of them.

    Raises:
        ParamsError: a number is out of range, or the batch cannot be shared out evenly.
    """
    if nodes < 1 or gpus < 0:
        raise ParamsError(f"train_nodes is {nodes} and train_gpus {gpus}; expected 1 or more, and 0 or more")
    ranks = nodes * max(gpus, 1)
    if batch_size % ranks:
        raise ParamsError(
            f"train_batch_size is {batch_size}; expected a multiple of {ranks}, the processes that train_nodes and "
            "train_gpus ask for"
        )
    return gpus if nodes == 1 else 0


def check_memory(**quantities: str) -> None:
    """Refuse what Kubernetes would refuse when the pod is due.

    Raises:
        ParamsError: one of them is no amount of memory.
    """
    for name, quantity in quantities.items():
        if not re.fullmatch(r"[1-9]\d*([kMGT]|[KMGT]i)?", quantity):
            raise ParamsError(f"{name} is {quantity!r}; expected a quantity of Kubernetes, for example 64G")


def _check(document: Mapping[str, Any], where: str) -> None:
    """Refuse what a step would refuse later, after hours."""
    for name in (*SECTIONS, *document):
        if name not in document or name not in SECTIONS:
            wrong = "missing" if name in SECTIONS else "unknown"
            raise ParamsError(f"{where}: the section {name} is {wrong}; compare with the params.yaml of the project")
    for name, cls in SECTIONS.items():
        try:
            from_mapping(cls, document[name], name)
        except ParamsError as error:
            raise ParamsError(f"{where}: {error}") from None
