"""World files of ISPRS data: which ones are valid, and which one belongs to a raster.

A world file holds six numbers, one per line: pixel width, two rotations, pixel height, and the map position of the
centre of the upper left pixel. It is copied next to its raster, where the reader of check and preprocess finds it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from components.acquire.archives import Damaged, Found, content
from components.common.rasterfiles.formats import WORLD_SUFFIXES

MAX_BYTES = 10_000
"""Size of a world file."""


def is_world_file(name: str) -> bool:
    """Whether a name has the suffix of a world file."""
    return PurePosixPath(name).suffix.lower() in WORLD_SUFFIXES


def check_world_file(found: Found) -> None:
    """Read a world file.

    Raises:
        Damaged: it does not hold six numbers that give pixels a size.
    """
    if found.size > MAX_BYTES:
        raise Damaged(f"{found.name}: is {found.size} bytes long; a world file has six numbers")
    text = b"".join(content(found)).decode("ascii", "replace")
    try:
        a, d, b, e, _, _ = (float(number.replace(",", ".")) for number in text.split())
        if not abs(a * e - b * d) > 0:
            raise ValueError("pixels without size")
    except ValueError:
        raise Damaged(f"{found.name}: not a world file, which has six numbers; correct or delete it") from None


def nearest(worlds: Collection[Found], name: str) -> Found | None:
    """The world file that shares the most folders with a raster, out of several with its name."""

    def shared(world: Found) -> int:
        pairs = zip(Path(world.name).parent.parts, Path(name).parent.parts, strict=False)
        return next((depth for depth, (one, other) in enumerate(pairs) if one != other), len(Path(name).parts))

    return max(worlds, key=shared, default=None)
