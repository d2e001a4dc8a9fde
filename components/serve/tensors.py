"""Requests and answers of the Open Inference Protocol (V2): JSON, or JSON followed by binary tensors.

In: a body and the header `Inference-Header-Content-Length`. Out: arrays; and the same way back. Every error is one
sentence. Letters: N rasters of a request, C image bands, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json, to_json

from components.serve.refusals import bad

HEADER = "Inference-Header-Content-Length"
"""Length of the JSON at the start of a body with binary tensors, bytes."""

MOST_LISTS = 4_000_000
"""Lists and objects in a JSON text, at most: an empty one has two bytes there and about 64 in memory."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorKind:
    """A tensor of the protocol."""

    datatype: str  # name in the protocol
    dtype: str  # NumPy's name, little endian
    rank: int  # dimensions of one raster; a batch has one more


INPUTS = {"image": TensorKind("UINT8", "u1", 3), "dsm": TensorKind("FP32", "<f4", 2)}
OUTPUTS = {"classes": TensorKind("UINT8", "u1", 2), "confidence": TensorKind("UINT8", "u1", 2)}
"""Inputs and outputs of every model by name."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request for inference."""

    arrays: Mapping[str, Array]  # of INPUTS, as sent: one raster or a batch
    binary: Mapping[str, bool]  # wanted outputs -> whether as binary tensors
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def rasters(self) -> list[tuple[Array | None, Array | None]]:
        """Image `[H, W, C]` and heights `[H, W]` of every raster; None: not given."""
        counts = {len(array) for name, array in self.arrays.items() if self._batched(name)}
        if len(counts) > 1 or (counts and not self.is_batch):
            raise bad(
                "image and dsm are not of the same number of rasters; give both as one raster or as equal batches"
            )
        if not self.is_batch:
            return [(self.arrays.get("image"), self.arrays.get("dsm"))]
        pairs = zip(*(self.arrays.get(name, [None] * max(counts)) for name in INPUTS), strict=True)
        return [(image, dsm) for image, dsm in pairs]

    @property
    def is_batch(self) -> bool:
        """Whether every input has a dimension of rasters."""
        return all(self._batched(name) for name in self.arrays)

    def _batched(self, name: str) -> bool:
        return self.arrays[name].ndim > INPUTS[name].rank


def parse(body: bytes, json_length: str | None) -> InferRequest:
    """Read a request.

    Args:
        body: JSON, or JSON and binary tensors.
        json_length: the header `HEADER`; None: all is JSON.

    Raises:
        RequestError: it does not follow the protocol, or has other tensors than the model.
    """
    text, rest = _split(body, json_length)
    content = json_object(text)
    parameters = _mapping(content.get("parameters"), "parameters")
    arrays: dict[str, Array] = {}
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= len(INPUTS):
        raise bad("inputs is missing or has another length than 1 or 2; give a list with image, dsm or both")
    for entry in inputs:
        name = _name(entry, INPUTS, "input")
        if name in arrays:
            raise bad(f"input {name} is given twice; give it once")
        arrays[name], rest = _array(name, entry, rest)
    if rest:
        raise bad(f"the body has {len(rest)} bytes more than its tensors need; correct binary_data_size")
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise bad("id is not a string")
    return InferRequest(arrays, _wanted(content.get("outputs"), parameters), identity, parameters)


def answer(request: InferRequest, name: str, version: str, arrays: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """The body of an answer and the length of its JSON; None: all is JSON.

    Args:
        request: what is answered.
        name: of the model.
        version: of the model.
        arrays: of OUTPUTS, `[H, W]` or `[N, H, W]`.
    """
    outputs, tensors = [], []
    for output, binary in request.binary.items():
        array = np.ascontiguousarray(arrays[output], OUTPUTS[output].dtype)
        entry: dict[str, Any] = {"name": output, "datatype": OUTPUTS[output].datatype, "shape": list(array.shape)}
        if binary:
            entry["parameters"] = {"binary_data_size": array.nbytes}
            tensors.append(array.tobytes())
        else:
            entry["data"] = array.ravel().tolist()
        outputs.append(entry)
    content = {"model_name": name, "model_version": version, "outputs": outputs}
    text = to_json(content if request.id is None else {"id": request.id, **content})
    return b"".join((text, *tensors)), len(text) if tensors else None


def json_object(text: bytes) -> dict[str, Any]:
    """A JSON object; errors as with `parse`."""
    if text.count(b"[") + text.count(b"{") > MOST_LISTS:
        raise bad(f"the JSON has more than {MOST_LISTS} lists and objects; give flat data, or binary tensors")
    try:
        content = from_json(text, allow_inf_nan=True)
    except ValueError as error:
        raise bad(f"the body is not valid JSON ({str(error)[:100]})") from None
    if not isinstance(content, dict):
        raise bad("the body is not a JSON object")
    return content


def _split(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    if json_length is None:
        return body, b""
    if not (json_length.isascii() and json_length.isdigit()) or not 0 < int(json_length[:18]) <= len(body):
        raise bad(
            f"the header {HEADER} is not the length of the JSON at the start of the body, which has {len(body)} bytes"
        )
    return body[: int(json_length)], body[int(json_length) :]


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise bad(f"{name} is not a JSON object")
    return value or {}


def _name(entry: Any, known: Mapping[str, TensorKind], what: str) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in known:
        raise bad(f"an {what} has no name or an unknown one; expected {' or '.join(known)}")
    return name


def _array(name: str, entry: Mapping[str, Any], rest: bytes) -> tuple[Array, bytes]:
    """The array of an input, and the bytes after it."""
    kind = INPUTS[name]
    if entry.get("datatype") != kind.datatype:
        raise bad(f"input {name} has no datatype or another one than {kind.datatype}")
    shape = _shape(name, entry.get("shape"))
    length = _mapping(entry.get("parameters"), f"parameters of input {name}").get("binary_data_size")
    if length is None:
        return _numbers(name, entry.get("data"), prod(shape)).reshape(shape), rest
    needed = prod(shape) * np.dtype(kind.dtype).itemsize
    if "data" in entry or type(length) is not int or length != needed:
        raise bad(f"input {name} needs binary_data_size {needed} for its shape, and no data")
    if len(rest) < needed:
        raise bad(f"the body ends within input {name}: {len(rest)} of {needed} bytes are there")
    return np.frombuffer(rest[:needed], kind.dtype).reshape(shape), rest[needed:]


def _shape(name: str, given: Any) -> tuple[int, ...]:
    rank = INPUTS[name].rank
    sides = tuple(given) if isinstance(given, list) else ()
    if rank <= len(sides) <= rank + 1 and all(type(side) is int and 0 < side < 2**31 for side in sides):
        return sides
    one = "height, width, bands" if rank == 3 else "height, width"
    raise bad(f"input {name} has no usable shape; expected [{one}], or one dimension more for a batch, all above 0")


def _numbers(name: str, data: Any, count: int) -> Array:
    """The numbers of JSON, flat; null means missing in heights."""
    if not isinstance(data, list):
        raise bad(f"input {name} has no data; give a list of numbers, or a binary tensor")
    try:
        # objects, because NumPy would make every number as long as the longest text
        values = np.asarray(data, object).ravel()
    except ValueError:
        raise bad(f"input {name} has lists of different lengths in its data") from None
    if values.size != count:
        raise bad(f"input {name} has {values.size} numbers in its data, but its shape needs {count}")
    types = set(map(type, values))
    if name == "image":
        if types != {int} or values.min() < 0 or values.max() > 255:
            raise bad("input image has values that are not whole numbers from 0 to 255")
        return values.astype(np.uint8)
    if not types <= {int, float, NoneType}:
        raise bad("input dsm has values that are neither numbers nor null")
    try:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    except OverflowError:
        raise bad("input dsm has heights beyond the range of FP32") from None


def _wanted(outputs: Any, parameters: Mapping[str, Any]) -> dict[str, bool]:
    """Outputs -> whether as binary tensors."""
    default = parameters.get("binary_data_output", False)
    if outputs is None:
        outputs = [{"name": name} for name in OUTPUTS]
    if not isinstance(outputs, list) or not outputs:
        raise bad("outputs is not a list of outputs; leave it out for all of them")
    wanted = {}
    for entry in outputs:
        name = _name(entry, OUTPUTS, "output")
        wanted[name] = _mapping(entry.get("parameters"), f"parameters of output {name}").get("binary_data", default)
        if not isinstance(wanted[name], bool):
            raise bad(f"binary_data of output {name} is neither true nor false")
    return wanted
