"""How a package was made, as an in-toto statement with SLSA provenance: what went in, and what came out.

In: a package that is complete but for its signature, and the files that it was made from. Out: the statement as JSON.
Subjects are all files of the package. Materials are the commits, the data version, the weights, the evaluation, and
`dvc.lock` with the outputs and parameters of the earlier stages, if it is the lock of these weights. Nothing depends on
time. It is a side file, because a package that the Kubeflow graph makes has no `dvc.lock`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement  # type: ignore[import-untyped]
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage  # type: ignore[import-untyped]

from components.common.data.store import CROISSANT
from components.common.errors import ParamsError
from components.common.files import digest
from components.common.inference.modelfile import ModelFacts
from components.common.tracking.packages import FORMAT, SIGNATURE, STATEMENT
from components.common.tracking.provenance import DISTRIBUTION, git_commit, tool_version
from components.common.yaml_files import read_yaml
from components.export.config import ExportConfig

PREDICATE = "https://slsa.dev/provenance/v1"

LOCK = Path("dvc.lock")
"""The lock of the project folder, in which DVC starts the steps."""

PLACES = ("data.path", "data.repo")
"""Parameters that say where the data lie; they are not part of what was done, and may be private."""

DIRECTORY = ".dir"
"""End of DVC's checksum of a folder, which is the md5 of a list of its files."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Materials:
    """What a package is made from."""

    weights: Path  # from training, with auxiliary heads
    evaluation: Path
    data: Path  # folder of the store
    lock: Path = LOCK  # need not exist


def statement(
    package: Path, facts: ModelFacts, evaluation: Mapping[str, Any], config: ExportConfig, materials: Materials
) -> Json:
    """The statement about a package.

    Args:
        package: folder with every file but the statement and the signature.
        facts: facts of the packaged model.
        evaluation: content of its `evaluation.json`.
        config: section `export`; the key's path is left out.
        materials: what the package was made from.

    Raises:
        ValueError: in-toto's own check refuses the statement.
    """
    stages = _stages(materials)
    export = {name: value for name, value in asdict(config).items() if name != "signing_key"}
    version = tool_version()
    content = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [{"name": path.name, "digest": {"sha256": digest(path)}} for path in _products(package)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"pkg:pypi/{DISTRIBUTION}?format={FORMAT}#components/export",
                "externalParameters": {"export": _plain(export), **{n: _parameters(s) for n, s in stages.items()}},
                "resolvedDependencies": [*_materials(facts, evaluation, materials), *_locked(stages, materials.lock)],
            },
            "runDetails": {
                "builder": {
                    "id": f"pkg:pypi/{DISTRIBUTION}@{version}",
                    "version": {DISTRIBUTION: version, "python": platform.python_version()},
                }
            },
        },
    }
    Statement.copy_from_pb(ParseDict(content, StatementMessage())).validate()
    return content


def _products(package: Path) -> list[Path]:
    return [
        path
        for path in sorted(package.iterdir())
        if path.name not in (STATEMENT, SIGNATURE) and not path.name.startswith(".")
    ]


def _materials(facts: ModelFacts, evaluation: Mapping[str, Any], materials: Materials) -> Iterator[Json]:
    """Descriptors of code, data and the files that the step reads."""
    protocol = evaluation["protocol"]
    for step, commit in (
        ("training", facts.git_commit),
        ("evaluation", protocol["git_commit"]),
        ("export", git_commit()),
    ):
        yield _source(step, commit)
    data = {"dataset": facts.dataset, "split": facts.split, "source": facts.source}
    yield {"name": "data version of the training", "digest": {"md5": facts.data_md5}, "annotations": data}
    if protocol["data_md5"] != facts.data_md5:
        yield {"name": "data version of the evaluation", "digest": {"md5": protocol["data_md5"]}}
    for name, path in (
        ("weights", materials.weights),
        ("evaluation", materials.evaluation),
        ("description of the data", materials.data / CROISSANT),
    ):
        if path.is_file():
            yield {"name": name, "digest": {"md5": digest(path, "md5"), "sha256": digest(path)}}
    start = facts.initial_weights
    if start.sha256:
        about = {"source": start.source, "licence": start.licence}
        yield {"name": "initial weights", "digest": {"sha256": start.sha256}, "annotations": about}


def _source(step: str, commit: str) -> Json:
    """Descriptor of the code of a step; a commit that is unknown or was changed is no checksum of the code."""
    known, _, changed = commit.partition("-")
    content: Json = {"name": f"code of the {step}", "annotations": {"commit": commit}}
    if known != "unknown" and not changed:
        content["digest"] = {"gitCommit": known}
    return content


def _stages(materials: Materials) -> dict[str, Json]:
    """The stages of the lock that led to weights and evaluation; none if the lock is not that of these files."""
    try:
        found = dict(read_yaml(materials.lock)["stages"]) if materials.lock.is_file() else {}
        made = {out["path"]: (name, out["md5"]) for name, stage in found.items() for out in stage.get("outs", ())}
        wanted = {digest(materials.weights, "md5"), digest(materials.evaluation, "md5")}
        waiting = [name for name, md5 in made.values() if md5 in wanted]
        if wanted - {md5 for _, md5 in made.values()}:
            return {}
        used: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                inputs = {dep["path"] for dep in found[name].get("deps", ())}
                waiting += [stage for path, (stage, _) in made.items() if path in inputs]
    except (ParamsError, KeyError, TypeError, AttributeError, ValueError):
        return {}
    return {name: stage for name, stage in found.items() if name in used}


def _parameters(stage: Json) -> Json:
    """The parameters of a stage: what its parameter files say, by key."""
    files = stage.get("params", {}).values()
    return _plain({key: value for file in files for key, value in file.items() if key not in PLACES})


def _plain(values: Mapping[str, Any]) -> Json:
    """Values as JSON reads them: lists for tuples."""
    content: Json = json.loads(json.dumps(values))
    return content


def _locked(stages: Mapping[str, Json], lock: Path) -> Iterator[Json]:
    """Descriptors of the lock and of every output that it records for these stages."""
    if not stages:
        return
    about = {"state": "when the export started: the stages after it were not in it, or were those of an earlier run"}
    yield {"name": lock.name, "digest": {"md5": digest(lock, "md5"), "sha256": digest(lock)}, "annotations": about}
    for name, stage in stages.items():
        for out in stage.get("outs", ()):
            kind = "dvcFolderMd5" if out["md5"].endswith(DIRECTORY) else "md5"
            value = {kind: out["md5"].removesuffix(DIRECTORY)}
            yield {"name": out["path"], "digest": value, "annotations": {"stage": name}}
