"""Names that MLflow accepts: class names and tile ids may hold characters that it rejects.

Names keep their spelling everywhere else. Two classes whose names would become the same one are an error of the data
set (`components.common.data.datasets`).
"""

from __future__ import annotations

import re

LONGEST = 250
"""Most characters of a metric or a tag in MLflow."""


def metric_name(name: str) -> str:
    """A name for a metric, a tag or a parameter: `iou/trees & shrubs` -> `iou/trees _ shrubs`.

    MLflow accepts letters, digits, underscores, dashes, periods, spaces and colons, in a path without empty parts.
    """
    parts = (part if part.strip(".") else "_" for part in re.sub(r"[^\w.\- :/]", "_", name).split("/"))
    return "/".join(parts)[:LONGEST]


def image_name(name: str) -> str:
    """A name for an image: a metric's name in ASCII, without colons."""
    return re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", metric_name(name))
