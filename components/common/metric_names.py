"""Names that MLflow accepts, for class names and tile ids with any character. The names can be decoded.

A character that MLflow rejects becomes its hexadecimal code point, `trees (deciduous)` -> `trees _x28_deciduous_x29_`,
as spreadsheets do in XML. An underscore that would begin such a code is encoded as well. So different names stay
different, and `original_name` gives the name back.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 250
"""Most characters of a metric, a parameter or a tag in MLflow."""

LONGEST_IMAGE = 150
"""Most characters of an image's name, which becomes a part of a file name."""

AMBIGUOUS = re.compile(r"_(?=x[0-9A-F])")
"""Underscores that would look like the beginning of a code."""

REJECTED = re.compile(r"[^\w.\- :/]")
"""MLflow accepts letters, digits, underscores, dashes, periods, spaces, colons and slashes."""

REJECTED_IN_IMAGES = re.compile(r"[^a-zA-Z0-9_\-./ ]")

NO_PATH = re.compile(r"^/|/$|(?<=/)/|^\.\.|(?<![^/])\.{1,2}(?![^/])")
"""What MLflow rejects in a path: empty parts, the parts `.` and `..`, and two periods at the beginning."""

CODE = re.compile(r"_x([0-9A-F]+)_")


def metric_name(name: str) -> str:
    """A name for a metric, a tag or a parameter: `iou/trees & shrubs` -> `iou/trees _x26_ shrubs`.

    Only a name that is too long for MLflow cannot be decoded: its end becomes a checksum.
    """
    return _shortened(_encoded(name, REJECTED), LONGEST)


def image_name(name: str) -> str:
    """A name for an image: in addition, letters outside of ASCII and colons are encoded."""
    return _shortened(_encoded(name, REJECTED_IN_IMAGES), LONGEST_IMAGE)


def original_name(encoded: str) -> str:
    """The name that `metric_name` or `image_name` encoded."""
    return CODE.sub(lambda code: chr(int(code[1], 16)), encoded)


def _encoded(name: str, rejected: re.Pattern[str]) -> str:
    patterns = "|".join(pattern.pattern for pattern in (AMBIGUOUS, NO_PATH, rejected))
    return re.sub(patterns, lambda found: "".join(f"_x{ord(character):X}_" for character in found[0]), name)


def _shortened(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    checksum = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: longest - len(checksum) - 1]}-{checksum}"
