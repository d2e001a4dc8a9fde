"""Elliptic keys as PEM files, and a package whose files are texts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from components.common.files import digest
from components.common.tracking.packages import FORMAT
from components.common.trust.config import TrustConfig
from components.common.trust.keys import Key, private_key


@dataclass(frozen=True)
class Owner:
    """Whoever signs: both keys."""

    private: Path
    public: Path

    @property
    def key(self) -> Key:
        """The private key, as the code reads it."""
        found = private_key(self.private)
        assert found is not None
        return found

    def trusted(self, required: bool = True) -> TrustConfig:
        """Section `trust` of somebody who trusts this owner."""
        return TrustConfig(require_signature=required, public_key=str(self.public))


def write_keys(folder: Path, name: str = "owner") -> Owner:
    """Make a key, as openssl writes it."""
    made = ec.generate_private_key(ec.SECP256R1())
    owner = Owner(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    owner.private.touch(0o600)
    owner.private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    owner.public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return owner


def write_text_package(folder: Path) -> Path:
    """A package whose files are texts, with side files."""
    folder.mkdir()
    for name in ("model.safetensors", "model.onnx", "README.md"):
        (folder / name).write_text(name)
    files = {path.name: digest(path) for path in folder.iterdir()}
    (folder / "export.json").write_text(json.dumps({"format": FORMAT, "sha256": files}))
    (folder / "sbom.cdx.json").write_text("{}")
    return folder
