"""Section `serve` of params.yaml: limits of the service, and how it follows its model."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT, Count, Text

SCHEMES = ("https", "http", "s3")
"""Schemes of URLs that the service can fetch."""


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ServeConfig:
    """Section `serve` of params.yaml."""

    max_body_mb: Count  # size of a request and of each file behind a URL, MB
    max_pixels: Annotated[float, Field(gt=0, le=10_000)]  # of a request, megapixels
    timeout_s: Annotated[float, Field(gt=0, le=86_400)]  # from the first byte of a request to its answer, seconds
    concurrency: Count  # requests that are computed at the same time
    queue: Annotated[int, Field(ge=0, le=65_536)]  # further requests that wait; others are answered with 429
    poll_s: Annotated[float, Field(gt=0, le=86_400)]  # time between two looks at the alias, seconds
    url_prefixes: tuple[Text, ...]  # URLs that requests may name start with one of these; empty: no URL
    allow_private_hosts: bool  # whether hosts of url_prefixes may have private, loopback or link-local addresses

    def __post_init__(self) -> None:
        """Check the prefixes of URLs."""
        for prefix in self.url_prefixes:
            if not _is_prefix(prefix):
                raise ValueError(
                    f"url_prefixes has {prefix!r}; write scheme, host and a path that ends with /, for example "
                    "https://tiles.example.org/2025/"
                )

    @property
    def max_body_bytes(self) -> int:
        """Largest request, bytes."""
        return self.max_body_mb * 1_000_000

    @property
    def most_px(self) -> int:
        """Largest raster, pixels."""
        return int(self.max_pixels * 1_000_000)


def _is_prefix(text: str) -> bool:
    """Whether a text is a URL with a known scheme, a host and a folder, and nothing else."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises an error if it is no number of a port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in SCHEMES and bool(parts.hostname) and parts.path.endswith("/") and plain
