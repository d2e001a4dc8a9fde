"""Whether a package may be used: what section `trust` demands of its signature.

A signature that exists must be valid if a public key is set. With `require_signature`, it must exist. Without a public
key, nothing is checked, and a line in the log says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.common.errors import TrustError
from components.common.files import with_weights
from components.common.tracking.packages import SIGNATURE
from components.common.trust.config import TrustConfig
from components.common.trust.keys import public_key
from components.common.trust.signatures import require_signed_file, require_signed_folder, signed_files

log = logging.getLogger(__name__)

State = Literal["valid", "missing", "invalid", "not checked"]

UNCHECKED = TrustConfig()
"""Trust without a public key: nothing is checked."""


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """What a check of a signature found."""

    state: State
    detail: str = ""  # the key of a valid signature; why it is invalid or not checked
    required: bool = False

    @property
    def passed(self) -> bool:
        """Whether the package may be used."""
        return self.state == "valid" or (self.state != "invalid" and not self.required)

    @property
    def sentence(self) -> str:
        """State and detail."""
        return f"{self.state}: {self.detail}" if self.detail else self.state


NOT_CHECKED = SignatureCheck("not checked", "trust.public_key is null")
"""The result without a public key."""


def valid(fingerprint: str, trust: TrustConfig) -> SignatureCheck:
    """The result for a signature of a trusted key."""
    return SignatureCheck("valid", f"key {fingerprint[:12]}", trust.require_signature)


def check_package(folder: Path, trust: TrustConfig, shown: str | None = None) -> SignatureCheck:
    """Check the signature of a complete package.

    Args:
        folder: the package.
        trust: section `trust`.
        shown: name of the package in messages; None: its path.

    Raises:
        TrustError: the signature is wrong or missing, or the package is not the signed one.
    """
    name, signature = shown or str(folder), folder / SIGNATURE
    if (early := _without_check(signature, trust, name)) is not None:
        return early
    assert trust.public_key is not None
    key = public_key(trust.public_key)
    require_signed_folder(folder, signed_files(signature, key, f"{name}/{SIGNATURE}"), name)
    log.info("%s: the signature is valid, key %s", name, key.fingerprint[:12])
    return valid(key.fingerprint, trust)


def check_file(file: Path, trust: TrustConfig, shown: str | None = None) -> SignatureCheck:
    """Check one file of a package by the signature next to it; the other files are not looked at.

    It proves that whoever has the key signed this file under this name. Weights of a graph in a second file are checked
    too.

    Args:
        file: the file; `model.sig` lies in the same folder.
        trust: section `trust`.
        shown: name of the package in messages; None: the path of its folder.

    Raises:
        TrustError: the signature is wrong or missing, or the file is not the signed one.
    """
    name, signature = shown or str(file.parent), file.with_name(SIGNATURE)
    if (early := _without_check(signature, trust, name)) is not None:
        return early
    assert trust.public_key is not None
    key = public_key(trust.public_key)
    signed = signed_files(signature, key, f"{name}/{SIGNATURE}")
    for one in with_weights(file):
        require_signed_file(one, signed, f"{name}/{one.name}", one.name)
    log.info("%s/%s: the signature is valid, key %s", name, file.name, key.fingerprint[:12])
    return valid(key.fingerprint, trust)


def _without_check(signature: Path, trust: TrustConfig, name: str) -> SignatureCheck | None:
    """The result where nothing can be checked; None: there is a signature, and a key to check it with.

    Raises:
        TrustError: there is no signature, although it is required.
    """
    if trust.public_key is None:
        if signature.is_file():
            log.info("%s: the signature is not checked, because trust.public_key is null", name)
        return NOT_CHECKED
    if signature.is_file():
        return None
    if trust.require_signature:
        raise TrustError(
            f"{name}: no signature ({SIGNATURE}), but trust.require_signature is true; sign the package with `mobanet "
            "package sign`, or use a signed one"
        )
    log.info("%s: no signature, and none is required", name)
    return SignatureCheck("missing")
