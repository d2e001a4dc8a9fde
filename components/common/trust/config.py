"""Section `trust` of params.yaml: whose packages register, predict and serve use."""

from __future__ import annotations

from pathlib import Path

from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class TrustConfig:
    """Section `trust` of params.yaml."""

    require_signature: bool = False  # True: refuse a package without a valid signature of `public_key`
    public_key: Path | None = None  # PEM file of the public key; None: signatures are not checked
