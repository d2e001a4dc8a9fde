"""Files of registered models: `models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a file of that version."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from components.common.errors import TrackingError, reason
from components.common.files import digest
from components.common.tracking.server import address, connect

log = logging.getLogger(__name__)

SCHEME = "models:/"
"""Beginning of the URI of a registered model."""

MODEL_FILE = "model.safetensors"
"""Name of the network's file in a registered model."""

SHA256 = "sha256"
"""Tag of a version: checksum of its `model.safetensors`."""

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
"""URI of one version of a registered model."""


def fetch(uri: str, file: str, folder: Path, setting: str = "model.init") -> tuple[Path, str]:
    """Download one file of a registered model. The checksum of `model.safetensors` must be that of the version's tag.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`; matches `URI`.
        file: name of the file in the model.
        folder: existing folder for the file.
        setting: key of params.yaml or option that names the model, for messages.

    Returns:
        Path of the file, and the URI with the version in place of the alias.

    Raises:
        TrackingError: the store cannot be reached, does not have the model, the version, the alias or the file, or the
            file is not the one that was registered.
    """
    match = URI.fullmatch(uri)
    assert match is not None, uri
    try:
        client = connect()
    except TrackingError as error:
        problem = str(error).split("; ")[0]
        raise TrackingError(f"{uri}: {problem}; correct MLFLOW_TRACKING_URI, or set {setting} to a file") from None
    import mlflow.artifacts

    name, version = match["name"], match["version"]
    try:
        if version is None:
            version = client.get_model_version_by_alias(name, match["alias"]).version
        pinned = f"{SCHEME}{name}/{version}"
        registered = client.get_model_version(name, str(version)).tags.get(SHA256)
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many types
        raise TrackingError(f"{uri}: not in {address()} ({reason(error)}); correct {setting}") from None
    try:
        path = Path(mlflow.artifacts.download_artifacts(f"{pinned}/{file}", dst_path=str(folder)))
    except Exception as error:
        raise TrackingError(
            f"{pinned}: {file} cannot be downloaded ({reason(error)}); use a version that the register step created"
        ) from None
    if file == MODEL_FILE and registered not in (None, digest(path)):
        raise TrackingError(
            f"{pinned}: {file} is not the file that was registered (its sha256 differs from the tag {SHA256}); "
            "register the model again"
        )
    log.info("%s: downloaded %s of version %s", uri, file, version)
    return path, pinned
