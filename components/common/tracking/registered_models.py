"""Versions of registered models: `models:/NAME@ALIAS` or `models:/NAME/VERSION` -> its tags, a file, or its package.

What is downloaded is compared with the checksums that the version had when it was registered.
"""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.common.errors import DataError, TrackingError, root
from components.common.files import digest
from components.common.tracking.addresses import kind
from components.common.tracking.answers import is_temporary, retried
from components.common.tracking.packages import (
    MODEL_FILE,
    RECORD,
    SIDE_FILES,
    package_digest,
    read_record,
    verify_files,
)
from components.common.tracking.server import address, connect, quoted, store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

SCHEME = "models:/"
"""Beginning of the URI of a registered model."""

SHA256, PACKAGE_SHA256 = "sha256", "package_sha256"
"""Tags of a version: checksum of its `model.safetensors`, and identity of its package."""

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
"""URI of one version of a registered model."""

LOGGED_MODEL = re.compile(r"models:/(m-[^/]+)")
"""Source of a version that was made of a logged model."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    version: str
    tags: dict[str, str]
    run_id: str | None  # training run; None: the version is not linked to one
    model_id: str | None = None  # logged model; None: the version was not made of one

    @property
    def uri(self) -> str:
        """`models:/NAME/VERSION`, which always means this version."""
        return f"{SCHEME}{self.name}/{self.version}"


def resolve(uri: str, setting: str = "--model") -> RegisteredVersion:
    """The version that a URI names now.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        setting: key of params.yaml or option that names the model, for messages.

    Raises:
        TrackingError: the URI has another form, the store cannot be reached, or it does not have the model, the version
            or the alias.
    """
    match = URI.fullmatch(uri)
    if match is None:
        raise TrackingError(f"{uri}: expected {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION; correct {setting}")
    try:
        client = connect()
    except TrackingError as error:
        problem = str(error).split("; ")[0]
        raise type(error)(f"{uri}: {problem}; correct MLFLOW_TRACKING_URI, or set {setting} to a file") from None
    name, version = match["name"], match["version"]
    try:
        if version is None:
            found = retried(lambda: client.get_model_version_by_alias(name, match["alias"]), f"look up {uri}")
        else:
            found = retried(lambda: client.get_model_version(name, version), f"look up {uri}")
    except TrackingError:
        raise
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many types
        raise TrackingError(f"{uri}: not in {address()} ({quoted(error)}); correct {setting}") from None
    return RegisteredVersion(
        name, str(found.version), dict(found.tags or {}), found.run_id or None, logged_model_of(found)
    )


def logged_model_of(version: ModelVersion) -> str | None:
    """Id of the logged model that a version was made of; databases return it as a part of the source only."""
    match = LOGGED_MODEL.fullmatch(version.source or "")
    return version.model_id or (match and match[1])


def fetch(uri: str, file: str, folder: Path, setting: str = "model.init") -> tuple[Path, str]:
    """Download one file of a registered model, and compare it with the version's recorded checksum.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        file: name of the file in the model.
        folder: existing folder for the file.
        setting: key of params.yaml or option that names the model, for messages.

    Returns:
        Path of the file, and the URI with the version in place of the alias.

    Raises:
        TrackingError: the store cannot be reached, does not have the model, the version, the alias or the file, or the
            file is not the one that was registered.
    """
    found = resolve(uri, setting)
    path = _download(found, file, folder)
    if file == MODEL_FILE and found.tags.get(SHA256) not in (None, digest(path)):
        raise TrackingError(
            f"{found.uri}: {file} is not the file that was registered (its sha256 differs from the tag {SHA256}); "
            "register the model again"
        )
    log.info("%s: downloaded %s of version %s", uri, file, found.version)
    return path, found.uri


def fetch_side_file(uri: str, file: str, folder: Path, setting: str = "--model") -> Path | None:
    """Download a file that a registered version may lack, such as its signature; None: it has no such file.

    Args:
        uri: `models:/NAME/VERSION`.
        file: one of `SIDE_FILES`. No tag of the version states its checksum.
        folder: existing folder for the file.
        setting: key of params.yaml or option that names the model, for messages.

    Raises:
        TrackingError: the store cannot be reached, or does not have the version.
    """
    found = resolve(uri, setting)
    return _download(found, file, folder) if file in side_files(found) else None


def side_files(version: RegisteredVersion) -> frozenset[str]:
    """Side files of a package that a registered version has.

    Raises:
        TrackingError: the store cannot list the files of the version.
    """
    import mlflow.artifacts

    try:
        entries = retried(
            lambda: mlflow.artifacts.list_artifacts(artifact_uri=version.uri), f"list the files of {version.uri}"
        )
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{version.uri}: its files cannot be listed ({quoted(error)}); {_remedy(error)}") from None
    return SIDE_FILES & {entry.path.rpartition("/")[2] for entry in entries}


def fetch_package(uri: str, folder: Path, setting: str = "--model") -> tuple[Path, RegisteredVersion]:
    """Download the package of a registered version, and compare its files with what was registered.

    Side files come too. No tag states their checksums, but a signature covers them (`components.common.trust`).

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        folder: existing, empty folder for the files.
        setting: key of params.yaml or option that names the model, for messages.

    Returns:
        Folder of the package, and its version.

    Raises:
        TrackingError: the store cannot be reached, does not have the version or one of its files, or a file is not the
            one that was registered.
    """
    found = resolve(uri, setting)
    _download(found, RECORD, folder)
    try:
        files: dict[str, str] = read_record(folder)["sha256"]
        for file in files:
            if Path(file).name == file:
                _download(found, file, folder)
        for file in sorted(side_files(found)):
            _download(found, file, folder)
        verify_files(folder)
    except DataError as error:
        raise TrackingError(f"{str(error).replace(str(folder), found.uri)} and register it") from None
    if found.tags.get(PACKAGE_SHA256) != package_digest(files):
        raise TrackingError(
            f"{found.uri}: not the package that was registered (its checksums differ from the tag {PACKAGE_SHA256}); "
            "register the package again"
        )
    log.info("%s: downloaded version %s", uri, found.version)
    return folder, found


def _download(version: RegisteredVersion, file: str, folder: Path) -> Path:
    import mlflow.artifacts

    def download() -> str:
        return mlflow.artifacts.download_artifacts(f"{version.uri}/{file}", dst_path=str(folder))

    def again(error: BaseException) -> bool:
        return is_temporary(error) and _fits(version, file, folder)

    try:
        return Path(retried(download, f"download {file} of {version.uri}", again=again))
    except TrackingError:
        raise
    except Exception as error:
        if not _fits(version, file, folder):
            raise TrackingError(
                f"{version.uri}: {file} cannot be downloaded, because no space is left in {folder.parent}; free some, "
                "or set TMPDIR to a folder with more space, then run the same command again"
            ) from None
        raise TrackingError(f"{version.uri}: {file} cannot be downloaded ({quoted(error)}); {_remedy(error)}") from None


def _fits(version: RegisteredVersion, file: str, folder: Path) -> bool:
    """Whether a disk has space for a file of a version; MLflow reports a full disk like any other failed download."""
    import mlflow.artifacts

    with suppress(Exception):  # without an answer about its size, the file is assumed to fit
        for entry in mlflow.artifacts.list_artifacts(artifact_uri=version.uri):
            if entry.path.rpartition("/")[2] == file:
                return (entry.file_size or 0) <= shutil.disk_usage(folder).free
    return True


def _remedy(error: BaseException) -> str:
    if isinstance(root(error), OSError) and kind(store()) == "database":
        return (
            "if the folder of this MLflow store was moved, run `python -m components.common.tracking.sqlite_store`, "
            "else use a version that the register step created"
        )
    return "use a version that the register step created"
