"""Read a registered version back as its users will: download, compare checksums, load, and run the stored crops.

The signature of a version is checked here too: with all its files, or by its record alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.common.errors import TrustError
from components.common.inference.modelfile import load_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import CropResult, require_same_logits
from components.common.tracking.packages import MODEL_FILE, RECORD, SIGNATURE, package_digest, read_record
from components.common.tracking.registered_models import PACKAGE_SHA256, fetch, fetch_package, fetch_side_file, resolve
from components.common.trust.config import TrustConfig
from components.common.trust.keys import public_key
from components.common.trust.signature_check import NOT_CHECKED, UNCHECKED, SignatureCheck, check_package, valid
from components.common.trust.signatures import require_signed_file, signed_files
from components.register.history.patience import patient
from components.register.uploads.shared_files import require_seen_by_server


def read_back(name: str, version: str, trust: TrustConfig = UNCHECKED) -> CropResult:
    """Check that a version can be downloaded and gives the logits that were stored with it.

    Args:
        name: registered model.
        version: version number.
        trust: section `trust`.

    Raises:
        TrackingError: files are missing or changed in the registry, or are on this machine only.
        TrustError: the signature in the registry is wrong, or missing although it is required.
        DataError: the downloaded package is damaged.
        WeightsError: the downloaded weights cannot be used, or the logits of a crop differ by more than the tolerance
            of the export.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        package, found = fetch_package(f"models:/{name}/{version}", Path(folder), "the version")
        if found.model_id is not None:
            require_seen_by_server(patient(mlflow.MlflowClient()), found.model_id, MODEL_FILE)
        check_package(package, trust, found.uri)
        tolerance = float(read_record(package)["parity"]["tolerance"])
        network, facts = load_model(package / MODEL_FILE)
        return require_same_logits(package / CROPS, network, facts, tolerance, found.uri)


def signature_of(name: str, version: str, trust: TrustConfig) -> SignatureCheck:
    """Check the signature of a version by the list of its files, without downloading them.

    The signature must list every file of the record with the same checksum, and these checksums must be the identity of
    the version. So a copy of the files that agrees with the version is the signed one.

    Args:
        name: registered model.
        version: version number.
        trust: section `trust`; without a public key, nothing is read.

    Raises:
        TrackingError: the version cannot be read.
        TrustError: the public key cannot be used.
    """
    if trust.public_key is None:
        return NOT_CHECKED
    key, uri = public_key(trust.public_key), f"models:/{name}/{version}"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        signature = fetch_side_file(uri, SIGNATURE, folder, "the version")
        if signature is None:
            return SignatureCheck("missing", required=trust.require_signature)
        record, _ = fetch(uri, RECORD, folder, "the version")
        try:
            signed = signed_files(signature, key, f"{uri}/{SIGNATURE}")
            require_signed_file(record, signed, f"{uri}/{RECORD}", RECORD)
            files: dict[str, str] = read_record(folder)["sha256"]
            odd = sorted(file for file, sha256 in files.items() if signed.get(file) != sha256)
            if odd or resolve(uri, "the version").tags.get(PACKAGE_SHA256) != package_digest(files):
                raise TrustError(
                    f"{uri}: {odd[0] if odd else RECORD} is not the signed file; register the package again"
                )
        except TrustError as error:
            return SignatureCheck("invalid", str(error).split("; ")[0], trust.require_signature)
    return valid(key.fingerprint, trust)
