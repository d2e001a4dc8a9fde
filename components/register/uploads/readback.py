"""Read a registered version back as its users will: download, compare checksums, load, and run the stored crops."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.common.inference.modelfile import load_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import CropResult, require_same_logits
from components.common.tracking.packages import MODEL_FILE, read_record
from components.common.tracking.registered_models import fetch_package
from components.register.history.patience import patient
from components.register.uploads.shared_files import require_seen_by_server


def read_back(name: str, version: str) -> CropResult:
    """Check that a version can be downloaded and gives the logits that were stored with it.

    Args:
        name: registered model.
        version: version number.

    Raises:
        TrackingError: files are missing or changed in the registry, or are on this machine only.
        DataError: the downloaded package is damaged.
        WeightsError: the downloaded weights cannot be used, or the logits of a crop differ by more than the tolerance
            of the export.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        package, found = fetch_package(f"models:/{name}/{version}", Path(folder), "the version")
        if found.model_id is not None:
            require_seen_by_server(patient(mlflow.MlflowClient()), found.model_id, MODEL_FILE)
        tolerance = float(read_record(package)["parity"]["tolerance"])
        network, facts = load_model(package / MODEL_FILE)
        return require_same_logits(package / CROPS, network, facts, tolerance, found.uri)
