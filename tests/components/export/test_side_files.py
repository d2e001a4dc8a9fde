"""The bill of materials and the statement as the export step writes them."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from components.common.files import digest
from components.common.tracking.packages import (
    RECORD,
    SBOM,
    SIDE_FILES,
    STATEMENT,
    package_digest,
    read_record,
    verify_files,
    verify_statement,
)


@pytest.fixture(scope="module")
def bom(package):
    return json.loads((package / SBOM).read_text())


@pytest.fixture(scope="module")
def stated(package):
    return json.loads((package / STATEMENT).read_text())


def test_they_are_there_and_not_part_of_the_identity(package) -> None:
    recorded = read_record(package)["sha256"]
    assert {SBOM, STATEMENT} <= {path.name for path in package.iterdir()} and not SIDE_FILES & recorded.keys()
    verify_files(package)
    assert verify_statement(package)


def test_the_subjects_are_the_files_of_the_package(package, stated) -> None:
    Statement.copy_from_pb(ParseDict(stated, StatementMessage())).validate()
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in stated["subject"]}
    assert subjects == {path.name: digest(path) for path in package.iterdir() if path.name != STATEMENT}
    assert subjects.keys() == {*read_record(package)["sha256"], RECORD, SBOM}


def test_the_materials_are_the_files_that_the_step_read(trained, stated) -> None:
    found = {entry["name"]: entry for entry in stated["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert found["weights"]["digest"]["sha256"] == digest(trained.weights)
    assert found["evaluation"]["digest"]["sha256"] == digest(trained.evaluation)


def test_the_bill_of_materials_is_valid_and_about_this_package(package, bom) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((package / SBOM).read_text()) is None
    recorded, model = read_record(package)["sha256"], bom["metadata"]["component"]
    assert model["version"] == package_digest(recorded)
    assert {file["name"]: file["hashes"][0]["content"] for file in model["components"]} == recorded
