"""components/common/tracking/packages.py: the identity of a package covers every file."""

from __future__ import annotations

import json

import pytest

from components.common.errors import DataError
from components.common.files import digest
from components.common.tracking.packages import (
    FORMAT,
    OLDEST,
    SIDE_FILES,
    formats_of,
    package_digest,
    read_record,
    verify_files,
    verify_statement,
)

FILES = ("model.onnx", "model.safetensors", "README.md")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(name)
    write_record(tmp_path)
    return tmp_path


def write_record(folder, **changes) -> None:
    record = {"format": FORMAT, "sha256": {name: digest(folder / name) for name in FILES}}
    (folder / "export.json").write_text(json.dumps(record | changes))


def test_the_identity_is_the_sha256_of_the_checksums_as_canonical_json() -> None:
    # printf '{"a":"1","b":"2"}' | sha256sum
    known = "21f76dfbfe6dfe21f762080ef484112cf2952974cef30741fd1931e1c6d92112"
    assert package_digest({"b": "2", "a": "1"}) == package_digest({"a": "1", "b": "2"}) == known


@pytest.mark.parametrize("files", [{"a": "1", "b": "3"}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "2", "b": "1"}])
def test_another_file_content_or_name_is_another_identity(files) -> None:
    assert package_digest(files) != package_digest({"a": "1", "b": "2"})


def test_a_complete_package_passes(folder) -> None:
    assert read_record(folder)["sha256"].keys() == set(FILES)
    verify_files(folder)


def test_a_package_of_the_earlier_format_is_read(folder) -> None:
    write_record(folder, format=OLDEST)
    assert read_record(folder)["format"] == OLDEST == FORMAT - 1
    verify_files(folder)


def test_the_graph_of_the_earlier_format_is_described_as_today() -> None:
    newest = {"formats": {"pt2": {"file": "model.pt2"}}}
    assert formats_of(newest) == newest["formats"]
    earlier = {"onnx": {"bytes": 5, "latency_ms": 2.0}, "parity": {"largest_difference": 1e-5, "tolerance": 1e-4}}
    assert formats_of(earlier)["onnx"] == {
        "file": "model.onnx",
        "bytes": 5,
        "latency_ms": 2.0,
        "largest_difference": 1e-5,
        "compared": "logits",
        "precision": "float32",
        "runtime": "onnxruntime",
        "status": "exported",
    }
    with pytest.raises(KeyError):
        formats_of({})


def test_side_files_may_come_and_change_without_another_identity(folder) -> None:
    for name in SIDE_FILES:
        for content in ("one", "another"):
            (folder / name).write_text(content)
            verify_files(folder)


def state(folder, *names, **changes) -> None:
    subject = [{"name": name, "digest": {"sha256": digest(folder / name)}} for name in names]
    subject += [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in changes.items()]
    (folder / "statement.intoto.json").write_text(json.dumps({"subject": subject}))


def test_a_statement_is_about_every_file_of_the_package(folder) -> None:
    assert verify_statement(folder) is False
    state(folder, *FILES, "export.json")
    assert verify_statement(folder) is True
    (folder / "sbom.cdx.json").write_text("software")
    state(folder, *FILES, "export.json", "sbom.cdx.json")
    assert verify_statement(folder) is True


def test_a_statement_about_other_files_or_a_damaged_one_is_one_sentence(folder) -> None:
    state(folder, *FILES[:-1], "export.json")
    with pytest.raises(DataError, match="statement.intoto.json: about another README.md than the package has; run"):
        verify_statement(folder)
    state(folder, *FILES, "export.json", unknown="0")
    with pytest.raises(DataError, match="about another unknown than the package has"):
        verify_statement(folder)
    state(folder, *FILES, "export.json")
    (folder / "export.json").write_text((folder / "export.json").read_text() + " ")
    with pytest.raises(DataError, match="about another export.json than"):
        verify_statement(folder)
    for content in ("{", "[]", '{"subject": [{"name": "a"}]}', '{"subject": 1}'):
        (folder / "statement.intoto.json").write_text(content)
        with pytest.raises(DataError, match="statement.intoto.json: damaged; run the export step again"):
            verify_statement(folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "README.md").unlink(), "README.md: missing, although export.json lists it"),
        (lambda folder: (folder / "model.onnx").write_text("other"), "model.onnx: changed since the export"),
        (lambda folder: (folder / "notes.txt").write_text("mine"), "notes.txt: not in export.json; remove this file"),
        (lambda folder: write_record(folder, sha256={"../a": "0"}), "a: missing, although export.json lists it"),
        (lambda folder: write_record(folder, sha256={"model.sig": "0"}), "export.json: damaged, .* lists model.sig"),
    ],
    ids=["missing", "changed", "added", "outside", "side file"],
)
def test_the_first_file_that_is_not_the_exported_one_is_named(folder, damage, sentence) -> None:
    damage(folder)
    with pytest.raises(DataError, match=sentence):
        verify_files(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no model package, because it has no export.json; run the export step"),
        ("{", "export.json: damaged; run the export step again"),
        ("[]", "export.json: damaged"),
        ('{"format": 3}', "export.json: damaged"),
        ('{"format": "x", "sha256": {}}', "export.json: damaged"),
        ('{"format": 1, "sha256": {"a": "0"}}', "a package of format 1, but this version needs 2 or 3; run the export"),
        ('{"format": 4, "sha256": {"a": "0"}}', "a package of format 4, .* reads format 3; install a newer version"),
    ],
)
def test_a_record_that_cannot_be_read_is_one_sentence(tmp_path, content, sentence) -> None:
    if content is not None:
        (tmp_path / "export.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_record(tmp_path)
