"""Keys that sign packages: a private key from a file or the environment, a public key from a file or its text.

Both are elliptic keys as PEM (`openssl ecparam -name prime256v1 -genkey`). No message contains a part of a key, and a
key from the environment is never written to a disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from components.common.errors import TrustError, reason

log = logging.getLogger(__name__)

VARIABLE = "MOBANET_SIGNING_KEY"
"""Environment variable with the text of a private key."""

BEGIN = "-----BEGIN "
"""Beginning of a PEM text, by which it differs from a path."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Curves of model-signing."""

LARGEST_KEY = 32_768
"""Size up to which a file can be a key, bytes."""

MAKE = "make one with `openssl ecparam -name prime256v1 -genkey -noout -out FILE`"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that can be used."""

    pem: bytes = field(repr=False)  # as given
    fingerprint: str  # sha256 of the public key, hexadecimal, as in a signature


def private_key(file: Path | None) -> Key | None:
    """The key that signs; a key that other users can read is used with a warning.

    Args:
        file: PEM file; None: the environment variable `MOBANET_SIGNING_KEY`.

    Returns:
        The key; None: neither is given.

    Raises:
        TrustError: the key is missing or cannot be used.
    """
    if file is not None:
        pem = _read(file, "private")
        if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("%s: other users have access to this private key; run `chmod 600 %s`", file, file)
        return _private(pem, str(file))
    text = os.environ.get(VARIABLE, "").strip()
    return _private(text.encode() + b"\n", VARIABLE) if text else None


def public_key(given: str, setting: str = "trust.public_key") -> Key:
    """The key whose signatures are trusted.

    Args:
        given: PEM file, or the text of one.
        setting: key of params.yaml or option that names it, for messages.

    Raises:
        TrustError: the key is missing or cannot be used.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    shown, pem = setting, given.encode()
    if not given.startswith(BEGIN):
        shown, pem = f"{setting}: {given}", _read(Path(given), "public", setting)
    if b"PRIVATE KEY" in pem:
        raise TrustError(f"{shown} is a private key, which must stay secret; give its public part (openssl ec -pubout)")
    try:
        key = load_pem_public_key(pem)
    except Exception:  # cryptography has several classes, and their texts may quote the file
        raise TrustError(f"{shown} is not a public key as PEM; write one with `openssl ec -in KEY -pubout`") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise TrustError(f"{shown} is not an elliptic key of the curves {', '.join(CURVES)}; {MAKE}")
    return Key(pem, _fingerprint(key))


def portable(given: str) -> str:
    """The text of a public key, which a pod can read that does not have the file.

    Raises:
        TrustError: the key is missing or cannot be used.
    """
    return public_key(given).pem.decode()


@contextmanager
def as_file(key: Key) -> Iterator[Path]:
    """A path from which a key can be read once; it is in memory, not on a disk."""
    reading, writing = os.pipe()  # which holds more than a key
    try:
        with os.fdopen(writing, "wb") as file:
            file.write(key.pem)
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)


def _private(pem: bytes, shown: str) -> Key:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PUBLIC KEY" in pem:
        raise TrustError(f"{shown} is a public key, which cannot sign; give the private key that belongs to it")
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:  # the key is encrypted
        raise TrustError(
            f"{shown} is protected by a password, which is not asked for; decrypt it with `openssl ec`, and pass the "
            f"text in {VARIABLE}"
        ) from None
    except Exception:  # cryptography has several classes, and their texts may quote the key
        raise TrustError(f"{shown} is not a private key as PEM; {MAKE}") from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise TrustError(f"{shown} is not an elliptic key of the curves {', '.join(CURVES)}; {MAKE}")
    return Key(pem, _fingerprint(key.public_key()))


def _read(file: Path, kind: str, setting: str = "export.signing_key or --key") -> bytes:
    try:
        with file.open("rb") as opened:
            pem = opened.read(LARGEST_KEY + 1)
    except FileNotFoundError:
        raise TrustError(f"{file}: there is no such {kind} key; correct {setting}") from None
    except OSError as error:
        raise TrustError(f"{file}: the {kind} key cannot be read ({error.strerror or reason(error)})") from None
    if len(pem) > LARGEST_KEY:
        raise TrustError(f"{file}: too large for a {kind} key; correct {setting}")
    return pem


def _fingerprint(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    assert isinstance(key, EllipticCurvePublicKey)
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
