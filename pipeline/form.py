"""Parameters of a Kubeflow run: a form with the keys that change often, and one text with the rest of params.yaml.

In: a params file. Out: the defaults of the pipeline's parameters. The first task of a run converts them back: form and
text -> every section as JSON, checked. A key is either in the form or in the text; setting it in both is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.acquire.step import SampleConfig
from components.check.config import CheckConfig
from components.common.data.config import DataConfig
from components.common.errors import ParamsError
from components.common.params import from_mapping
from components.common.trust.config import TrustConfig
from components.common.trust.keys import VARIABLE, portable
from components.common.yaml_files import dump_yaml, parse_yaml, read_yaml
from components.evaluate.config import EvaluateConfig
from components.export.config import ExportConfig
from components.predict.config import PredictConfig
from components.preprocess.step import PreprocessConfig
from components.register.config import RegisterConfig
from components.serve.config import ServeConfig
from components.train.config import ModelParams, RuntimeConfig, TrainConfig
from components.watch.config import WatchConfig

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
    "trust": TrustConfig,
    "predict": PredictConfig,
    "serve": ServeConfig,
    "watch": WatchConfig,
}
"""Section of params.yaml -> its dataclass."""

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
"""Parameter of the pipeline -> key of params.yaml. An empty string in the form means null."""

LIMIT = 10_000
"""Maximum length of a parameter in Kubeflow, characters."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Default values of the pipeline's parameters."""

    form: dict[str, Any]  # parameter of the pipeline -> value
    text: str  # the other keys, as YAML on one line, because kfp also writes it into a comment


def defaults(params: Path) -> Defaults:
    """Split a params file into form and text.

    Raises:
        ParamsError: a key or a value is wrong, or the text is longer than `LIMIT`.
        TrustError: the public key of the section trust cannot be used.
    """
    document = deepcopy(dict(read_yaml(params)))
    require_sections(document, str(params))
    form = {}
    for parameter, key in FORM.items():
        name, field = key.split(".")
        value = document[name].pop(field)
        form[parameter] = "" if value is None else value
    _carry_key(document)
    if document["export"].get("signing_key") is not None:
        raise ParamsError(
            f"{params}: export.signing_key is a file, which the tasks of a pipeline do not have; set it to null, and "
            f"put the text of the key into {VARIABLE} (docs/signing.md)"
        )
    text = dump_yaml(document, one_line=True).strip()
    if len(text) > LIMIT:
        raise ParamsError(
            f"{params}: {len(text)} characters without the keys of the form; Kubeflow accepts {LIMIT}, so shorten it"
        )
    return Defaults(form, text)


def section_text(params: Path, name: str) -> str:
    """One section of a params file, as YAML on one line.

    Raises:
        ParamsError: a key or a value of the file is wrong.
        TrustError: the public key of the section trust cannot be used.
    """
    document = dict(read_yaml(params))
    require_sections(document, str(params))
    _carry_key(document)
    return dump_yaml(document[name], one_line=True).strip()


def _carry_key(document: dict[str, Any]) -> None:
    """Replace the file of the public key by its text: a pod does not have the file."""
    if (given := document["trust"]["public_key"]) is not None:
        document["trust"] = {**document["trust"], "public_key": portable(given)}


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the first task of a run: every section as JSON, and `pod_gpus`.

    Args:
        values: parameter of the pipeline -> value, for all parameters.

    Raises:
        ParamsError: a value would make a later task fail.
    """
    check_memory(**{name: values[name] for name in ("train_memory", "evaluate_memory")})
    gpus = pod_gpus(values["train_nodes"], values["train_gpus"], values["train_batch_size"])
    return {**sections(values, values["params"]), "pod_gpus": gpus}


def sections(form: Mapping[str, Any], text: str) -> dict[str, str]:
    """Every section as JSON.

    Args:
        form: parameter of the pipeline -> value; parameters that are not in `FORM` are ignored.
        text: the other keys, as YAML.

    Raises:
        ParamsError: a key or a value is wrong, or a key is both in the form and in the text.
    """
    document = parse_yaml(text, "params")
    for parameter, key in FORM.items():
        name, field = key.split(".")
        section = document.get(name) if isinstance(document, dict) else None
        if not isinstance(section, dict):
            raise ParamsError(f"params: the section {name} is missing; compare it with the project's params.yaml")
        if field in section:
            raise ParamsError(f"params: {key} is set twice; remove it here, because {parameter} in the form sets it")
        section[field] = None if form[parameter] == "" else form[parameter]
    require_sections(document, "params")
    return {name: json.dumps(document[name]) for name in SECTIONS}


def pod_gpus(nodes: int, gpus: int, batch_size: int) -> int:
    """GPUs that the pod of the task train requests: none for several nodes, because it then launches other pods.

    Args:
        nodes: number of nodes that train together, 1 or more.
        gpus: GPUs per node, 0 or more.
        batch_size: crops per step over all nodes and GPUs.

    Raises:
        ParamsError: a number is out of range, or the batch cannot be divided evenly.
    """
    if nodes < 1 or gpus < 0:
        raise ParamsError(f"train_nodes is {nodes} and train_gpus {gpus}; expected 1 or more, and 0 or more")
    ranks = nodes * max(gpus, 1)
    if batch_size % ranks or batch_size < 2 * ranks:
        raise ParamsError(
            f"train_batch_size is {batch_size}; expected a multiple of {ranks}, the number of processes that "
            f"train_nodes and train_gpus start, and {2 * ranks} or more"
        )
    return gpus if nodes == 1 else 0


def check_memory(**quantities: str) -> None:
    """Check amounts of memory, which Kubernetes would check only when it starts the pod.

    Raises:
        ParamsError: a value is not an amount of memory.
    """
    for name, quantity in quantities.items():
        if not re.fullmatch(r"[1-9]\d*([kMGT]|[KMGT]i)?", quantity):
            raise ParamsError(f"{name} is {quantity!r}; expected a Kubernetes quantity, for example 64G")


def require_sections(document: Mapping[str, Any], where: str) -> None:
    """Check all sections now, so that a step does not reject one after hours.

    Raises:
        ParamsError: a section, a key or a value is wrong.
    """
    for name in (*SECTIONS, *document):
        if name not in document or name not in SECTIONS:
            wrong = "missing" if name in SECTIONS else "unknown"
            raise ParamsError(f"{where}: the section {name} is {wrong}; compare it with the project's params.yaml")
    for name, cls in SECTIONS.items():
        try:
            from_mapping(cls, document[name], name)
        except ParamsError as error:
            raise ParamsError(f"{where}: {error}") from None
