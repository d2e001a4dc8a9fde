"""Sign a folder, and check a folder or one of its files against a signature, with OpenSSF model-signing.

A signature holds the sha256 of every file of the folder. `model_signing verify key` accepts what is written here. Its
programming interface checks complete folders only, but a single file of a registered version has to be checked too.
So the verified list of checksums is read here, and compared with the files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from components.common.errors import TrustError, reason
from components.common.files import digest, replacing
from components.common.tracking.packages import SIGNATURE
from components.common.trust.keys import Key, as_file

LARGEST_SIGNATURE = 4_000_000
"""Size up to which a file can be a signature, bytes."""

NAME = "mobanet-package"
"""What is signed, in the signature; without it, model-signing writes the name of a working folder."""

SIGN = "sign the package again with `mobanet package sign`"


def sign(folder: Path, key: Key) -> Path:
    """Write `model.sig`, which covers every other file of a folder, and replaces an earlier signature.

    Args:
        folder: a complete package.
        key: the private key.

    Returns:
        The signature.

    Raises:
        TrustError: a file cannot be read.
    """
    from model_signing import hashing, signing

    target = folder / SIGNATURE
    files = hashing.Config()  # type: ignore[no-untyped-call]
    files.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False).set_allow_symlinks(True)
    config = signing.Config()  # type: ignore[no-untyped-call]
    with as_file(key) as pem:
        config.use_elliptic_key_signer(private_key=pem).set_hashing_config(files)
    try:
        with tempfile.TemporaryDirectory() as place, replacing(target) as draft:
            named = Path(place) / NAME
            named.symlink_to(folder.resolve())
            config.sign(named, draft)  # writes the draft after it has read all files
    except (OSError, ValueError) as error:
        raise TrustError(f"{folder}: the package cannot be signed ({reason(error)})") from None
    return target


def signed_files(signature: Path, key: Key, shown: str) -> dict[str, str]:
    """File -> sha256 of what a signature covers, if the key made it.

    Args:
        signature: the file `model.sig`.
        key: the public key.
        shown: name of the signature in messages.

    Raises:
        TrustError: the signature cannot be read, was changed, or was made with another key.
    """
    from model_signing._signing.sign_ec_key import Verifier
    from model_signing._signing.sign_sigstore_pb import Signature

    if signature.stat().st_size > LARGEST_SIGNATURE:
        raise TrustError(f"{shown}: too large for a signature; {SIGN}")
    try:
        read = Signature.read(signature)
        named = read.bundle.verification_material.public_key
        made_with = str(named.hint) if named is not None else "unknown"
    except Exception as error:  # pydantic, json and base64 have a class for each kind of damage
        raise TrustError(f"{shown}: not a readable signature ({reason(error)}); {SIGN}") from None
    if made_with != key.fingerprint:
        raise TrustError(
            f"{shown}: made with another key ({made_with[:12]}) than the trusted one ({key.fingerprint[:12]}); do not "
            "use this package, or trust that key"
        )
    try:
        with as_file(key) as pem:
            verifier = Verifier(pem)
        covered = verifier.verify(read)
    except Exception:  # a wrong signature is an exception of cryptography; other damage is any
        raise TrustError(f"{shown}: the signature is wrong, because it or its list was changed; {SIGN}") from None
    kind = covered.serialization_type
    if kind.get("method") != "files" or kind.get("hash_type") != "sha256":
        raise TrustError(f"{shown}: does not list the sha256 of whole files; {SIGN}")
    return {entry.identifier: entry.digest.digest_hex for entry in covered.resource_descriptors()}


def require_signed_folder(folder: Path, signed: Mapping[str, str], shown: str) -> None:
    """Check that a folder consists of the signed files and its signature.

    Raises:
        TrustError: a file is missing, has changed or is not signed; the sentence names the first one.
    """
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    present = {path.relative_to(folder).as_posix() for path in found} - {SIGNATURE}
    for name in sorted(signed):
        if name not in present:
            raise TrustError(f"{shown}/{name}: missing, although {SIGNATURE} lists it; get the complete package")
        require_signed_file(folder / name, signed, f"{shown}/{name}", name)
    if extra := sorted(present - signed.keys()):
        raise TrustError(f"{shown}/{extra[0]}: not signed; remove this file, or {SIGN}")


def require_signed_file(file: Path, signed: Mapping[str, str], shown: str, name: str) -> None:
    """Check that a file is the signed one of this name.

    Raises:
        TrustError: the file has changed, or the signature does not list it.
    """
    if name not in signed:
        raise TrustError(f"{shown}: not signed; remove this file, or {SIGN}")
    if not file.is_file() or digest(file) != signed[name]:
        raise TrustError(f"{shown}: changed since it was signed; get the signed file, or {SIGN}")
