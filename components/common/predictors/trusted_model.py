"""Check the signature of a model before it is opened: of a package folder, a file of one, or a registered version.

A version is downloaded in part, so its check proves less: whoever has the key signed this file under this name. It does
not prove that the other files of the version are signed, or that the version is the newest one.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from components.common.errors import TrackingError
from components.common.tracking.packages import SIGNATURE
from components.common.tracking.registered_models import fetch_side_file
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import check_file, check_package


def require_trusted(model: str, file: Path, version: str | None, trust: TrustConfig) -> None:
    """Check what section `trust` demands.

    Args:
        model: package folder, file or URI, as the user named it.
        file: the file that is opened.
        version: `models:/NAME/VERSION` of a registered model; None: the model is not registered.
        trust: section `trust`.

    Raises:
        TrustError: the signature is wrong, or missing although it is required.
        TrackingError: the registry cannot be asked for the signature.
    """
    if version is not None:
        if trust.public_key is None:  # only to tell that a signature is not checked
            with suppress(TrackingError):
                fetch_side_file(version, SIGNATURE, file.parent)
        else:
            fetch_side_file(version, SIGNATURE, file.parent)
        check_file(file, trust, version)
    elif Path(model).is_dir():
        check_package(Path(model), trust)
    else:
        check_file(file, trust)
