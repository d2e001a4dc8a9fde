"""Read a registered version back as its users will: download, compare checksums, load, and run the stored crops."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.common.errors import TrackingError
from components.common.inference.modelfile import load_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import CropResult, run_crops
from components.common.tracking.packages import MODEL_FILE, read_record
from components.common.tracking.registered_models import fetch_package
from components.register.patience import patient
from components.register.shared_files import require_seen_by_server


def read_back(name: str, version: str) -> CropResult:
    """Check that a version can be downloaded and gives the logits that were stored with it.

    Args:
        name: registered model.
        version: version number.

    Raises:
        TrackingError: files are missing or changed in the registry, or are on this machine only, or the logits of a
            crop differ by more than the tolerance of the export.
        DataError: the downloaded package is damaged.
        WeightsError: the downloaded weights cannot be used.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        package, found = fetch_package(f"models:/{name}/{version}", Path(folder), "the version")
        if found.model_id is not None:
            require_seen_by_server(patient(mlflow.MlflowClient()), found.model_id, MODEL_FILE)
        tolerance = float(read_record(package)["parity"]["tolerance"])
        network, facts = load_model(package / MODEL_FILE)
        result = run_crops(package / CROPS, network, facts)
    if not result.largest_difference <= tolerance:
        raise TrackingError(
            f"{found.uri}: the logits of the stored crops differ by {result.largest_difference:.3g} from those of the "
            f"export, more than export.tolerance {tolerance:.3g}, so this model is not used; run export and register "
            "again on this machine, or raise export.tolerance"
        )
    return result
