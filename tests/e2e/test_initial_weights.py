"""`dvc repro` from a registered model on other settings, and from a local file whose content changes."""

from __future__ import annotations

import re
import shutil

import pytest

from components.common.files import digest
from components.common.inference.modelfile import load_model
from tests.e2e.conftest import Project

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def project(tiny_project, tmp_path_factory):
    """A copy of the tiny project with a registered champion."""
    copy = Project(tmp_path_factory.mktemp("initial") / "project")
    shutil.copytree(tiny_project.root, copy.root)
    repro(copy)
    return copy


def repro(project, *targets: str) -> list[str]:
    """The stages that `dvc repro` ran."""
    done = project.call("dvc", "repro", *targets, timeout=600)
    assert done.returncode == 0, done.stderr
    return re.findall(r"Running stage '(\w+)'", done.stdout + done.stderr)


def started_from(project):
    return load_model(project.root / "models/best.safetensors")[1].initial_weights


def test_a_second_repro_computes_checksums_only(project):
    assert repro(project) == ["weights"]


def test_the_champion_starts_a_training_with_other_options(project):
    champion = digest(project.root / "package/model.safetensors")
    project.change_params({"model": {"init": "models:/mobanet@champion", "dgfm": False}})
    assert {"weights", "train", "evaluate", "export", "register", "predict"} == set(repro(project))
    start = started_from(project)
    assert (start.source, start.sha256) == ("models:/mobanet/1", champion)
    assert start.parts["backbone"] == start.parts["classifier"] == "complete"
    assert "models:/mobanet/1" in (project.root / "reports/report.html").read_text()
    assert (
        f"| started from | `models:/mobanet/1`, sha256 `{champion}`" in (project.root / "package/README.md").read_text()
    )


def test_another_content_of_the_file_trains_again(project):
    file = project.root / "earlier.safetensors"
    shutil.copy(project.root / "package/model.safetensors", file)
    project.change_params({"model": {"init": "earlier.safetensors"}})
    assert repro(project, "train") == ["weights", "train"]
    assert repro(project, "train") == ["weights"]
    shutil.copy(project.root / "models/best.safetensors", file)
    assert repro(project, "train") == ["weights", "train"]
    assert started_from(project).sha256 == digest(file)
