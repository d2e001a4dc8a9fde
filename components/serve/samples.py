"""What a caller gives to the logged model -> samples: an image and a DSM each, as arrays or as files.

The input is a mapping, a data frame or a list of mappings with the columns `image` and `dsm`. MLflow turns arrays into
nested lists on the way. The depth of the nesting tells one raster from a batch: `[H, W, C]` or `[N, H, W, C]` for
images, `[H, W]` or `[N, H, W]` for heights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.errors import DataError

DIMENSIONS = {"image": 3, "dsm": 2}
"""Columns of the input, and the dimensions of one raster."""

EXPECTED = "give image [H, W, C] or [N, H, W, C], dsm [H, W] or [N, H, W], or both; paths and URLs are possible too"


@dataclass(frozen=True, slots=True)
class Sample:
    """One raster; both layers are arrays, or both are paths or URLs."""

    image: Any  # `[H, W, C]`, path or URL; None: no image
    dsm: Any  # `[H, W]`, path or URL; None: no DSM

    @property
    def is_file(self) -> bool:
        """Whether the layers are paths or URLs."""
        return isinstance(self.image, str) or isinstance(self.dsm, str)


@dataclass(frozen=True, slots=True)
class Samples:
    """All rasters of a request."""

    samples: tuple[Sample, ...]
    batched: bool  # False: a single raster, whose result has no batch dimension


def samples_of(given: Any) -> Samples:
    """The rasters of a request.

    Args:
        given: mapping, data frame or list of mappings, with arrays of any shape, nested lists, paths or URLs.

    Raises:
        DataError: the input has another form.
    """
    layers = {name: _layer(name, column) for name, column in _columns(given).items()}
    found = {name: layer for name, layer in layers.items() if layer is not None}
    if not found:
        raise DataError(f"the input has neither an image nor a DSM; {EXPECTED}")
    counts = {name: len(rasters) for name, (rasters, _) in found.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"the input has {counts['image']} images and {counts['dsm']} DSMs; give as many of both")
    empty = [None] * max(counts.values())
    pairs = zip(*(found.get(name, (empty, False))[0] for name in DIMENSIONS), strict=True)
    samples = tuple(Sample(image, dsm) for image, dsm in pairs)
    if any(sample.is_file and (_is_array(sample.image) or _is_array(sample.dsm)) for sample in samples):
        raise DataError("the input has an array and a file for one raster; give both as arrays, or both as files")
    return Samples(samples, any(batched for _, batched in found.values()))


def _columns(given: Any) -> dict[str, Any]:
    """Column -> its values; a data frame is recognised by its columns, without importing pandas."""
    if hasattr(given, "columns"):
        return {name: given[name].tolist() for name in DIMENSIONS if name in given.columns}
    if isinstance(given, Mapping):
        return {name: given[name] for name in DIMENSIONS if name in given}
    if isinstance(given, Sequence) and given and all(isinstance(row, Mapping) for row in given):
        return {name: [row.get(name) for row in given] for name in DIMENSIONS if any(name in row for row in given)}
    raise DataError(f"the input is of type {type(given).__name__}; {EXPECTED}")


def _layer(name: str, column: Any) -> tuple[list[Any], bool] | None:
    """Rasters of a column, and whether they are a batch; None: every value is missing."""
    if isinstance(column, np.ndarray) and (column.dtype == object or column.dtype.kind in "US"):
        column = column.tolist()
    leaf, depth = _nesting(column)
    if leaf is None:
        return None
    if isinstance(leaf, str):
        return _files(name, column), True
    if depth != DIMENSIONS[name] + 1:
        return [_array(name, column)], False
    return [None if _nesting(value)[0] is None else _array(name, value) for value in column], True


def _nesting(value: Any) -> tuple[Any, int]:
    """The first value that is not missing, at any depth, and the depth; None: all are missing."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (value.flat[0] if value.size else 0), value.ndim
    if isinstance(value, list | tuple | np.ndarray):
        for item in value:
            leaf, depth = _nesting(item)
            if leaf is not None:
                return leaf, depth + 1
        return None, 0
    missing = value is None or (isinstance(value, float) and value != value)
    return (None if missing else value), 0


def _files(name: str, column: Any) -> list[str | None]:
    """Paths and URLs of a column, which may be a single one, or a list in a cell; None: missing."""
    if isinstance(column, list | tuple):
        return [value for cell in column for value in _files(name, cell)]
    leaf, depth = _nesting(column)
    if depth or not (leaf is None or isinstance(leaf, str)):
        raise DataError(f"{name} has paths next to other values; {EXPECTED}")
    return [leaf]


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    """An array or nested lists as an array: whole numbers of 0 to 255 as uint8, heights as float32, null as NaN."""
    try:
        if name == "dsm":
            return value if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" else np.array(value, np.float32)
        pixels = np.asarray(value)
    except (TypeError, ValueError):
        raise DataError(f"{name} is not an array of numbers with rows of one length; {EXPECTED}") from None
    if pixels.dtype.kind in "iu" and pixels.size and 0 <= pixels.min() and pixels.max() <= 255:
        return pixels.astype(np.uint8, copy=False)
    return pixels


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)
