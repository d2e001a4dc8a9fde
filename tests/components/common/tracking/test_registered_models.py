"""components/common/tracking/registered_models.py: what is downloaded is what was registered."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest

from components.common.errors import TrackingError
from components.common.files import digest
from components.common.tracking import answers
from components.common.tracking.packages import FORMAT, package_digest
from components.common.tracking.registered_models import fetch, fetch_package, resolve


def write_package(folder: Path, format_number: int = FORMAT) -> dict[str, str]:
    """A package whose files are texts. Returns the checksums of its files."""
    folder.mkdir()
    for name in ("model.safetensors", "model.onnx", "README.md"):
        (folder / name).write_text(name)
    files = {path.name: digest(path) for path in folder.iterdir()}
    (folder / "export.json").write_text(json.dumps({"format": format_number, "sha256": files}))
    return files


@pytest.fixture
def register(mlflow_folder):
    """Register the files of a folder as a version of `city`, with these tags."""

    def call(folder: Path, **tags: str) -> Path:
        client = mlflow.MlflowClient()
        logged = client.create_logged_model("0", name="mobanet")
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        if not client.search_registered_models("name = 'city'"):
            client.create_registered_model("city")
        made = client.create_model_version("city", f"models:/{logged.model_id}", model_id=logged.model_id, tags=tags)
        client.set_registered_model_alias("city", "champion", made.version)
        return Path(client.get_logged_model(logged.model_id).artifact_location)

    return call


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_a_package_arrives_with_all_its_files_and_its_version(register, tmp_path, target) -> None:
    files = write_package(tmp_path / "package")
    (tmp_path / "package/MLmodel").write_text("written by MLflow, and no part of the package")
    register(tmp_path / "package", package_sha256=package_digest(files))
    folder, version = fetch_package("models:/city@champion", target)
    assert {path.name for path in folder.iterdir()} == {*files, "export.json"}
    assert (version.name, version.version, version.uri) == ("city", "1", "models:/city/1")
    assert resolve("models:/city/1") == version and version.run_id is None
    assert version.model_id == mlflow.MlflowClient().search_logged_models(["0"])[0].model_id


@pytest.mark.parametrize("file", ["model.onnx", "README.md", "export.json"])
def test_a_package_that_was_changed_in_the_registry_is_refused(register, tmp_path, target, file) -> None:
    files = write_package(tmp_path / "package")
    stored = register(tmp_path / "package", package_sha256=package_digest(files))
    changed = json.dumps({"format": FORMAT, "sha256": files | {"model.onnx": "0" * 64}})
    (stored / file).write_text(changed if file == "export.json" else "other")
    with pytest.raises(TrackingError, match=r"^models:/city/1/\S+: changed since the export"):
        fetch_package("models:/city@champion", target)


def test_another_complete_package_in_the_place_of_the_registered_one_is_refused(register, tmp_path, target) -> None:
    write_package(tmp_path / "package")
    register(tmp_path / "package", package_sha256="0" * 64)
    with pytest.raises(TrackingError, match="models:/city/1: not the package that was registered"):
        fetch_package("models:/city@champion", target)


def test_a_package_without_one_of_its_files_or_of_an_older_format_is_refused(register, tmp_path, target) -> None:
    files = write_package(tmp_path / "package")
    stored = register(tmp_path / "package", package_sha256=package_digest(files))
    (stored / "model.onnx").unlink()
    with pytest.raises(TrackingError, match=r"models:/city/1: model\.onnx cannot be downloaded"):
        fetch_package("models:/city@champion", target)
    write_package(tmp_path / "old", format_number=1)
    register(tmp_path / "old")
    with pytest.raises(TrackingError, match=r"^models:/city/2: a package of format 1, but this version needs 2"):
        fetch_package("models:/city/2", target)


@pytest.mark.parametrize("uri", ["models:/city", "models:/city/champion", "city@champion", "runs:/1/model"])
def test_an_address_of_another_form_is_one_sentence(uri) -> None:
    with pytest.raises(TrackingError, match=r"expected models:/NAME@ALIAS or models:/NAME/VERSION; correct --model"):
        resolve(uri)


def test_a_download_is_repeated_while_the_store_is_busy(register, tmp_path, target, monkeypatch) -> None:
    write_package(tmp_path / "package")
    register(tmp_path / "package")
    monkeypatch.setattr(answers, "PAUSES_S", (0.0, 0.0))
    download, failures = mlflow.artifacts.download_artifacts, [ConnectionError("reset"), TimeoutError("slow")]

    def busy(*args, **options):
        if failures:
            raise failures.pop()
        return download(*args, **options)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", busy)
    assert fetch("models:/city/1", "model.onnx", target)[0].read_text() == "model.onnx"
