"""components/export/origin/statement.py: the statement is valid, and says what went in and what came out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from ruamel.yaml import YAML

from components.common.files import digest
from components.common.tracking import provenance
from components.common.tracking.packages import SIGNATURE, STATEMENT
from components.export.origin import statement as module
from components.export.origin.statement import Materials, statement
from tests.components.conftest import export_config

CONFIG = export_config(signing_key=Path("/home/somebody/secret.pem"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "package"
    made.mkdir()
    for name in ("model.safetensors", "export.json", "sbom.cdx.json", STATEMENT, SIGNATURE, ".export.json.1.part"):
        (made / name).write_text(name)
    return made


@pytest.fixture
def about(trained, folder, tmp_path):
    """The statement about a package of the toy model, made with this lock."""
    evaluation = json.loads(trained.evaluation.read_text())

    def about(stages=None, facts=trained.facts, weights=trained.weights, config=CONFIG):
        lock = tmp_path / "dvc.lock"
        if stages is not None:
            YAML().dump({"schema": "2.0", "stages": stages}, lock)
        materials = Materials(weights, trained.evaluation, trained.store, lock)
        return statement(folder, facts, evaluation, config, materials)

    return about


def stages(trained, **changes):
    """A lock of a run that made the toy model, and one of a stage that has nothing to do with it."""
    train = {
        "deps": [{"path": "data/store", "md5": "5" * 32 + ".dir"}, {"path": "model", "md5": "6" * 32}],
        "params": {"params.yaml": {"train": {"steps": 300}, "model": {"backbone": "toy"}}},
        "outs": [{"path": "models/best.safetensors", "md5": digest(trained.weights, "md5")}],
    }
    known = {
        "preprocess": {"params": {"params.yaml": {}}, "outs": [{"path": "data/store", "md5": "5" * 32 + ".dir"}]},
        "train": train,
        "evaluate": {
            "deps": [{"path": "models/best.safetensors", "md5": "7" * 32}],
            "outs": [{"path": "reports/evaluation.json", "md5": digest(trained.evaluation, "md5")}],
        },
        "predict": {"outs": [{"path": "maps", "md5": "8" * 32 + ".dir"}]},
    }
    return known | changes


def materials_of(content):
    return {entry["name"]: entry for entry in content["predicate"]["buildDefinition"]["resolvedDependencies"]}


def parameters_of(content):
    return content["predicate"]["buildDefinition"]["externalParameters"]


def test_the_statement_is_valid_in_toto_with_slsa_provenance(about, trained) -> None:
    content = about(stages(trained))
    Statement.copy_from_pb(ParseDict(content, StatementMessage())).validate()
    found = ParseDict(content["predicate"], Provenance())
    assert content["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found.build_definition.build_type == "pkg:pypi/mobanet-pipeline?format=3#components/export"
    assert {d.name for d in found.build_definition.resolved_dependencies} == materials_of(content).keys()
    assert found.run_details.builder.id.startswith("pkg:pypi/mobanet-pipeline@")
    assert not found.run_details.metadata.HasField("started_on")


def test_subjects_are_all_files_but_the_statement_the_signature_and_drafts(about, folder) -> None:
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in about()["subject"]}
    assert subjects == {name: digest(folder / name) for name in ("export.json", "model.safetensors", "sbom.cdx.json")}


def test_materials_are_commits_data_weights_and_evaluation(about, trained, monkeypatch) -> None:
    monkeypatch.setattr(module, "git_commit", lambda: "e" * 40)
    found = materials_of(about())
    assert found["code of the training"]["digest"] == {"gitCommit": trained.facts.git_commit}
    assert found["code of the export"]["digest"] == {"gitCommit": "e" * 40}
    assert found["data version of the training"]["digest"] == {"md5": trained.facts.data_md5}
    for name, path in (("weights", trained.weights), ("evaluation", trained.evaluation)):
        assert found[name]["digest"] == {"md5": digest(path, "md5"), "sha256": digest(path)}
    assert "dvc.lock" not in found and "initial weights" not in found
    start = replace(trained.facts.initial_weights, source="hub", sha256="f" * 64, licence="Apache-2.0")
    found = materials_of(about(facts=replace(trained.facts, initial_weights=start)))
    assert found["initial weights"]["digest"] == {"sha256": "f" * 64}
    assert found["initial weights"]["annotations"] == {"source": "hub", "licence": "Apache-2.0"}


@pytest.mark.parametrize("commit", ["unknown", "a" * 40 + "-dirty"])
def test_code_that_no_commit_vouches_for_has_no_checksum(about, monkeypatch, commit) -> None:
    monkeypatch.setenv("GIT_COMMIT", commit)
    found = materials_of(about())["code of the export"]
    assert found == {"name": "code of the export", "annotations": {"commit": commit}}
    assert provenance.git_commit() == commit


def test_the_lock_gives_its_checksum_and_parameters_and_outputs_of_the_stages_before(about, trained, tmp_path) -> None:
    content = about(stages(trained))
    found, lock = materials_of(content), tmp_path / "dvc.lock"
    assert found["dvc.lock"]["digest"] == {"md5": digest(lock, "md5"), "sha256": digest(lock)}
    assert found["data/store"] == {
        "name": "data/store",
        "digest": {"dvcFolderMd5": "5" * 32},
        "annotations": {"stage": "preprocess"},
    }
    assert found["models/best.safetensors"]["digest"] == {"md5": digest(trained.weights, "md5")}
    assert "maps" not in found and "predict" not in parameters_of(content)
    assert parameters_of(content)["train"] == {"train": {"steps": 300}, "model": {"backbone": "toy"}}


def test_the_lock_of_other_weights_is_not_a_material(about, trained, tmp_path) -> None:
    other = {"outs": [{"path": "models/best.safetensors", "md5": "9" * 32}]}
    for content in (stages(trained, train=other), {}, {"train": None}, {"train": {"outs": [{"path": "x"}]}}):
        made = about(content)
        assert "dvc.lock" not in materials_of(made) and parameters_of(made).keys() == {"export"}
    (tmp_path / "dvc.lock").write_text("stages: [")
    assert "dvc.lock" not in materials_of(about())


def test_parameters_are_those_of_the_export_without_the_place_of_a_key_or_of_the_data(about, trained) -> None:
    acquire = {
        "params": {"params.yaml": {"data.path": "/home/somebody/data", "data.split": "sample"}},
        "outs": [{"path": "data/raw", "md5": "4" * 32 + ".dir"}],
    }
    preprocess = {
        "deps": [{"path": "data/raw", "md5": "4" * 32 + ".dir"}],
        "outs": [{"path": "data/store", "md5": "5" * 32 + ".dir"}],
    }
    content = about(stages(trained, acquire=acquire, preprocess=preprocess))
    found = parameters_of(content)
    assert found["export"]["opset"] == 20 and found["export"]["tolerance"] == 1e-4
    assert found["acquire"] == {"data.split": "sample"}
    assert "somebody" not in json.dumps(content)


def test_the_same_package_has_the_same_statement(about, trained) -> None:
    assert json.dumps(about(stages(trained))) == json.dumps(about(stages(trained)))
