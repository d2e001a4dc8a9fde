"""Section `trust` of params.yaml: whose packages register, predict and serve use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT

KeyText = Annotated[str, Field(min_length=1, description="a PEM file, or the text of one")]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class TrustConfig:
    """Section `trust` of params.yaml."""

    require_signature: bool = False  # True: refuse a package without a valid signature of `public_key`
    public_key: KeyText | None = None  # PEM file of the public key, or its text; None: signatures are not checked

    def __post_init__(self) -> None:
        if self.require_signature and self.public_key is None:
            raise ValueError(
                "require_signature is true, but public_key is null; set public_key to the PEM file of whoever signs"
            )
