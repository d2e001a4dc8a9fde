"""The record of a model package and the identity that a registered version has by it.

In: a package folder. Out: its record, its digest, or one sentence about the file that is not the exported one.
`export.json` lists the sha256 of every other file. The digest of that list changes with any file. Side files are left
out of it, because they depend on the machine or on a key, and the same model on another machine is the same package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.errors import DataError
from components.common.files import digest

RECORD = "export.json"
"""Record of a package; it lists all other files."""

MODEL_FILE, EVALUATION = "model.safetensors", "evaluation.json"
"""The network, and the evaluation that its card shows."""

SBOM, STATEMENT, SIGNATURE = "sbom.cdx.json", "statement.intoto.json", "model.sig"
"""Software of the export, how the package was made (in-toto), and the signature of all other files."""

SIDE_FILES = frozenset({SBOM, STATEMENT, SIGNATURE})
"""Files that a package may have without being recorded; none of them belongs to its identity."""

FORMAT = 3
"""Version of the record. It increases when earlier readers could misread the file."""

OLDEST = 2
"""Earliest format that is still read, because registered versions keep theirs."""


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a package.

    Raises:
        DataError: the record is missing or damaged, or has another format.
    """
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        written, files = int(record["format"]), {**record["sha256"]}
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: no model package, because it has no {RECORD}; run the export step") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise DataError(f"{path}: damaged; run the export step again") from None
    if written > FORMAT:
        raise DataError(
            f"{folder}: a package of format {written}, but this version reads format {FORMAT}; install a newer version"
        )
    if written < OLDEST or not files:
        raise DataError(
            f"{folder}: a package of format {written}, but this version needs {OLDEST} or {FORMAT}; run the export "
            "step again"
        )
    return record


def formats_of(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The formats that a record lists, by name; a record of format 2 has one ONNX file, described by other keys.

    Raises:
        KeyError: the record has neither.
    """
    if "formats" in record:
        return dict(record["formats"])
    agreement = {"compared": "logits", "largest_difference": record["parity"]["largest_difference"]}
    known = {"file": "model.onnx", "precision": "float32", "runtime": "onnxruntime", "status": "exported"}
    return {"onnx": {**record["onnx"], **known, **agreement}}


def package_digest(files: Mapping[str, str]) -> str:
    """Identity of a package: sha256 of its files' checksums as canonical JSON.

    Args:
        files: file name -> sha256, of every file but the record and the side files.
    """
    text = json.dumps(dict(files), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify_files(folder: Path) -> None:
    """Check that a package consists of the files that were exported, and of side files, which are not checked here.

    Raises:
        DataError: a file is missing, has changed, or is not recorded; the sentence names the first one.
    """
    recorded: dict[str, str] = read_record(folder)["sha256"]
    for name, sha256 in sorted(recorded.items()):
        path = folder / name
        if name in SIDE_FILES:
            raise DataError(f"{folder / RECORD}: damaged, because it lists {name}; run the export step again")
        if Path(name).name != name or not path.is_file():
            raise DataError(f"{path}: missing, although {RECORD} lists it; run the export step again")
        if digest(path) != sha256:
            raise DataError(f"{path}: changed since the export; run the export step again")
    for path in sorted(folder.iterdir()):
        if path.name != RECORD and path.name not in SIDE_FILES and path.name not in recorded:
            raise DataError(f"{path}: not in {RECORD}; remove this file or run the export step again")


def verify_statement(folder: Path) -> bool:
    """Check that the in-toto statement of a package, if there is one, names the files of the record.

    Returns:
        Whether the package has a statement.

    Raises:
        DataError: the record or the statement is damaged, or the statement is about other files.
    """
    record, path = read_record(folder), folder / STATEMENT
    if not path.is_file():
        return False
    wanted: dict[str, str] = record["sha256"] | {RECORD: digest(folder / RECORD)}
    if (folder / SBOM).is_file():
        wanted[SBOM] = digest(folder / SBOM)
    try:
        stated = {str(entry["name"]): entry["digest"]["sha256"] for entry in json.loads(path.read_text())["subject"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path}: damaged; run the export step again") from None
    differ = sorted(name for name in wanted.keys() | stated.keys() if wanted.get(name) != stated.get(name))
    if differ:
        raise DataError(f"{path}: about another {differ[0]} than the package has; run the export step again")
    return True
