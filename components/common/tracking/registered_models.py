"""Files of registered models: `models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a file of that version."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from components.common.errors import TrackingError, reason
from components.common.tracking.server import address, connect

log = logging.getLogger(__name__)

SCHEME = "models:/"
"""Beginning of the URI of a registered model."""

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
"""URI of one version of a registered model."""


def fetch(uri: str, file: str, folder: Path) -> tuple[Path, str]:
    """Download one file of a registered model.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`; matches `URI`.
        file: name of the file in the model.
        folder: existing folder for the file.

    Returns:
        Path of the file, and the URI with the version in place of the alias.

    Raises:
        TrackingError: the store cannot be reached, or does not have the model, the version, the alias or the file.
    """
    match = URI.fullmatch(uri)
    assert match is not None, uri
    try:
        client = connect()
    except TrackingError as error:
        problem = str(error).split("; ")[0]
        raise TrackingError(f"{uri}: {problem}; correct MLFLOW_TRACKING_URI, or set model.init to a file") from None
    import mlflow.artifacts

    name, version = match["name"], match["version"]
    try:
        if version is None:
            version = client.get_model_version_by_alias(name, match["alias"]).version
        pinned = f"{SCHEME}{name}/{version}"
        client.get_model_version(name, str(version))
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many types
        raise TrackingError(f"{uri}: not in {address()} ({reason(error)}); correct model.init") from None
    try:
        path = Path(mlflow.artifacts.download_artifacts(f"{pinned}/{file}", dst_path=str(folder)))
    except Exception as error:
        raise TrackingError(
            f"{pinned}: {file} cannot be downloaded ({reason(error)}); use a version that the register step created"
        ) from None
    log.info("%s: downloaded %s of version %s", uri, file, version)
    return path, pinned
