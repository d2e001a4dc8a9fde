"""Packages that differ in their scores or in other files, and the gates that the tests use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.common.files import digest, write_json
from components.register.config import RegisterConfig

CONFIG = RegisterConfig(
    model_name="city",
    promote=True,
    min_expected_miou=50.0,
    max_fused_drop=0.5,
    max_class_drop=2.0,
    max_sensor_drop=3.0,
    max_latency_ms=None,
    max_size_mb=None,
    require_clean_commit=True,
    on_tie="keep",
)


def variant(package: Path, folder: Path, *, shift: float = 0.0, **protocol) -> Path:
    """A copy of a package; `shift` is added to its scores, percent points; `protocol` changes its protocol."""
    shutil.copytree(package, folder, dirs_exist_ok=True)
    scores = json.loads((folder / "evaluation.json").read_text())
    scores["protocol"] |= protocol
    for figure in ("both", "expected_miou"):
        scores["balance"][figure] += shift
    headline = scores["scores"]["eroded"]["rgb+dsm"]
    headline["miou"] += shift
    for found in headline["per_class"].values():
        found["iou"] += shift
    write_json(folder / "evaluation.json", scores)
    return sealed(folder)


def sealed(folder: Path, **facts) -> Path:
    """Record the checksums of a package whose files were changed, and state them; `facts` change its facts."""
    record = json.loads((folder / "export.json").read_text())
    record["sha256"] = {name: digest(folder / name) for name in record["sha256"]}
    record["facts"] |= facts
    write_json(folder / "export.json", record)
    statement = folder / "statement.intoto.json"
    if statement.is_file():
        names = [name for name in (*record["sha256"], "export.json", "sbom.cdx.json") if (folder / name).is_file()]
        subject = [{"name": name, "digest": {"sha256": digest(folder / name)}} for name in names]
        write_json(statement, json.loads(statement.read_text()) | {"subject": subject})
    return folder
