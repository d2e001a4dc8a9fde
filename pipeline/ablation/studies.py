"""Studies: named variants with their changes to params.yaml, and the trainings of a study.

In: a YAML file of studies (`studies.yaml` in this folder, or the user's own), params.yaml, seeds. Out: jobs. Every key
of every job is checked before the first one runs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from components.common.data.store import Store
from components.common.errors import ParamsError
from components.common.params import from_mapping, read_yaml
from components.train.config import ModelParams, TrainConfig
from components.train.copies import require_copies_per_rank
from components.train.weights.weight_checksums import checksums
from model.mobanet import on_meta
from pipeline.ablation.computation import passes

BUILT_IN = Path(__file__).with_name("studies.yaml")

Changes = Mapping[str, Any]
"""Dotted key of params.yaml -> value."""

MAY_CHANGE = ("model", "train")
"""Sections that a variant may change. Figures with another protocol or other data would not be comparable."""

TOLERANCE = 0.01
"""Relative difference up to which the computation of two trainings is equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One study of a file."""

    about: str  # one sentence on what the table shows
    variants: dict[str, Any]  # name -> Changes; the others are compared with the first
    base: dict[str, Any] = field(default_factory=dict)  # Changes of every variant, before its own
    equal_computation: bool = False  # whether variants must have equal computation, within `TOLERANCE`


@dataclass(frozen=True, slots=True)
class Job:
    """One training of a study."""

    variant: str
    train: TrainConfig
    model: ModelParams
    folder: Path  # its name is a hash of everything that determines the weights, so studies share trainings


def read_study(path: Path, name: str) -> Study:
    """Read one study of a file. Its variants include the changes of `base`.

    Raises:
        ParamsError: the file or the study does not exist, or does not have the format of `studies.yaml`.
    """
    document = read_yaml(path)
    if name not in document:
        raise ParamsError(
            f"{path}: no study {name}; choose one of {', '.join(document)}, or set --studies to another file"
        )
    study = from_mapping(Study, document[name], f"{path}: {name}")
    for variant, changes in study.variants.items():
        if not isinstance(changes, Mapping):
            raise ParamsError(f"{path}: {name}.variants.{variant} is {changes!r}; expected a mapping of keys to values")
    if len(study.variants) < 2:
        raise ParamsError(f"{path}: {name} has {len(study.variants)} variants; expected 2 or more to compare")
    return replace(study, variants={name: study.base | changes for name, changes in study.variants.items()}, base={})


def jobs(study: Study, params: Path, seeds: Sequence[int], store: Store, runs: Path) -> list[Job]:
    """All trainings of the study, variant by variant.

    Args:
        study: the study.
        params: params.yaml, which the variants change.
        seeds: seeds; each variant is trained with each.
        store: the store to train on.
        runs: parent folder of the trainings' folders.

    Raises:
        ParamsError: a key, a value or a network of a variant is wrong, two variants result in the same training, or
            they differ in computation although the study says that it is equal.
    """
    found: list[Job] = []
    for variant, changes in study.variants.items():
        try:
            found += _variant_jobs(variant, changes, read_yaml(params), seeds, store, runs)
        except ParamsError as error:
            raise ParamsError(f"variant {variant!r} of {params}: {error}") from None
    _refuse_twins(found)
    if study.equal_computation:
        _require_equal_computation(found, params)
    return found


def _variant_jobs(
    variant: str, changes: Changes, document: Mapping[str, Any], seeds: Sequence[int], store: Store, runs: Path
) -> Iterator[Job]:
    changed = _changed(document, changes)
    model = from_mapping(ModelParams, changed.get("model"), "model")
    train = from_mapping(TrainConfig, changed.get("train"), "train")
    try:
        on_meta(model.network(len(store.manifest.classes), len(store.manifest.bands)))
    except ValueError as error:
        raise ParamsError(f"model.{error}") from None
    if len(model.modalities) > 1:
        require_copies_per_rank(train, ranks=1)
    for seed in seeds:
        seeded = replace(train, seed=seed)
        yield Job(variant, seeded, model, runs / _key(seeded, model, store))


def _changed(document: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    changed = copy.deepcopy(dict(document))
    for key, value in changes.items():
        *path, last = str(key).split(".")
        if not path or path[0] not in MAY_CHANGE or key == "train.seed":
            allowed = " and ".join(MAY_CHANGE)
            raise ParamsError(
                f"{key} cannot be changed; a variant may change keys of {allowed}; set seeds with --seeds"
            )
        inner = changed
        for part in path:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = value
    return changed


def _key(train: TrainConfig, model: ModelParams, store: Store) -> str:
    """A short hash of everything that determines the weights of a training, except the code."""
    files = checksums(model.weights, model.init)
    start = {key: files.get(f"model.{key}", getattr(model, key)) for key in ("weights", "init")}
    shaping = {"train": asdict(train), "model": asdict(model) | start, "data": store.data_md5}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def _refuse_twins(found: Sequence[Job]) -> None:
    known: dict[Path, Job] = {}
    for job in found:
        if (twin := known.setdefault(job.folder, job)) is not job:
            raise ParamsError(
                f"variants {twin.variant!r} and {job.variant!r} result in the same training; change one of them, "
                "or the value in params.yaml that makes them equal"
            )


def _require_equal_computation(found: Sequence[Job], params: Path) -> None:
    counts = {job.variant: passes(job.train, job.model) for job in found}
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[most] > (1 + TOLERANCE) * counts[least]:
        raise ParamsError(
            f"variants {least!r} and {most!r} of {params} take {counts[least]} and {counts[most]} passes of crops "
            "through the backbone, but the study has equal_computation: true; set train.steps of one of them there"
        )
