"""What `model.weights` and `model.init` can name, and files that are not weights. Imports no torch, to be quick."""

from __future__ import annotations

import re
from pathlib import Path

from components.common.errors import WeightsError
from components.common.tracking.registered_models import SCHEME, URI

S3 = "s3://"
"""Beginning of the URI of an object in S3."""

NOT_WEIGHTS = (
    (rb"version https://git-lfs", "a Git LFS pointer instead of the weights; run `git lfs pull`"),
    (rb"(outs|md5|wdir|deps|frozen):", "a DVC pointer instead of the weights; run `dvc pull` and name the pulled file"),
    (rb"(?i)\s*<(!doctype|html|\?xml|head)", "a web page instead of the weights; download the file again"),
)
"""First bytes of a file, what the file is, and what to do."""


def check_sources(weights: str, init: str | None) -> None:
    """Check that both keys name a possible source, without opening it.

    Raises:
        ValueError: a value cannot be used; the message begins with the key without `model.`.
    """
    if weights.startswith(SCHEME):
        raise ValueError(f"weights is {weights!r}; expected none, hub, a file or s3://; set model.init to this model")
    if init is None:
        return
    if init in ("none", "hub", "null") or init.startswith(S3):
        raise ValueError(f"init is {init!r}; expected null, a file, models:/NAME@ALIAS or models:/NAME/VERSION")
    if init.startswith(SCHEME) and not URI.fullmatch(init):
        raise ValueError(f"init is {init!r}; expected models:/NAME@ALIAS, models:/NAME/VERSION or a file")
    if weights != "none":
        raise ValueError(f"weights is {weights!r}; expected none, because model.init has backbone weights too")


def local_file(source: str | None) -> Path | None:
    """Path of a weight file on this machine; None for `none`, `hub`, URIs and null."""
    if source is None or source in ("none", "hub") or source.startswith((S3, SCHEME)):
        return None
    return Path(source)


def require_file(path: Path, key: str, source: str | None = None) -> None:
    """Check that a path is a file that may contain weights.

    Args:
        path: the file.
        key: the key of params.yaml that names it, for messages.
        source: origin of the file, for messages; None: its path.

    Raises:
        WeightsError: there is no such file, or it is a folder, a pointer to a file or a web page.
    """
    name = source or path
    if path.is_dir():
        raise WeightsError(f"{name}: a folder; set {key} to a file in it")
    if not path.is_file():
        raise WeightsError(f"{name}: file not found; correct {key}")
    with path.open("rb") as file:
        begin = file.read(200)
    for pattern, problem in NOT_WEIGHTS:
        if re.match(pattern, begin):
            raise WeightsError(f"{name}: {problem}")
