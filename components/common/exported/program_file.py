"""Check a `.pt2` file, and hand torch a copy that can only compute.

`torch.export.load` reads pickles, runs the guards of a program as Python code, evaluates its expressions, and looks up
the functions that it names in all of torch. So a file is read here member by member: no pickle is opened, everything
that torch would evaluate must be arithmetic, and torch gets an archive that is made of the checked members alone.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from components.common.errors import WeightsError, reason
from components.common.exported.graph_layout import GraphLayout, Report, layout_of, refused
from components.common.exported.program_text import check_arithmetic
from components.common.inference.modelfile import HEADER
from model.mobanet import on_meta

Members = dict[str, zipfile.ZipInfo]
"""Name below the first folder of the archive -> member."""

PROGRAM, EXTRA, EXAMPLES = "models/model.json", f"extra/{HEADER}", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
SMALL = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
"""Members that must hold just this."""

IGNORED = {".data/version", ".data/serialization_id", "version"}
TENSORS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")

MOST_TEXT = 128 * 2**20
"""Most bytes of a program; that of the largest network has a tenth of it."""

DTYPES = {
    code: dtype for code, dtype in enumerate((None, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))
}
DTYPES |= {6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}
"""Types of torch's format by their number there."""


def check_program(path: Path, report: Report = lambda sentence: None) -> tuple[GraphLayout, io.BytesIO]:
    """Check a program.

    Args:
        path: the file.
        report: called with every check that was passed.

    Returns:
        Its layout, and an archive for `torch.export.load` with nothing but the checked members.

    Raises:
        WeightsError: the file is no program of this project, is damaged, or could do something else than compute.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(path, archive)
            report(f"members: {len(members)}, all known, uncompressed and without a pickle")
            texts = {name: _json(path, archive, members, name) for name in (EXTRA, PROGRAM, WEIGHTS, CONSTANTS)}
            layout = layout_of(path, texts[EXTRA])
            report(f"metadata: format {texts[EXTRA].get('format')}")
            check_arithmetic(path, texts[PROGRAM])
            operators = len(texts[PROGRAM]["graph_module"]["graph"]["nodes"])
            report(f"program: {operators} operators that only compute, and arithmetic over sizes")
            _check_tensors(path, archive, members, texts, layout)
            report("tensors: the weights of the network in the metadata, of the sizes that they state, and finite")
            return layout, _copy(archive, members, texts)
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged archive or a hostile text leads to
        raise refused(path, f"not a readable program of this project ({reason(error)})") from None


def _members(path: Path, archive: zipfile.ZipFile) -> Members:
    """The members by name; all are stored as they are, within the file, and known."""
    found: Members = {}
    folders = {info.filename.partition("/")[0] for info in archive.infolist()}
    size = path.stat().st_size
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        if not folder or ".." in info.filename.split("/") or "\\" in info.filename or len(folders) > 1:
            raise refused(path, f"its member {info.filename[:80]!r} lies outside of the archive's folder")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise refused(path, f"its member {name[:80]!r} is compressed; no program of this project is")
        if name in found:
            raise refused(path, f"its member {name[:80]!r} occurs twice")
        known = {PROGRAM, EXTRA, EXAMPLES, WEIGHTS, CONSTANTS, *SMALL, *IGNORED}
        if name not in known and not TENSORS.fullmatch(name):
            raise refused(path, f"its member {name[:80]!r} belongs to no program of this project")
        found[name] = info
    if sum(info.file_size for info in found.values()) > size:
        raise refused(path, "its members are larger than the file")
    if EXAMPLES in found and found[EXAMPLES].file_size:
        raise refused(path, f"its member {EXAMPLES!r} is a pickle, which could run code; none is opened")
    for name, content in SMALL.items():
        if name not in found or archive.read(found[name]) != content:
            raise refused(path, f"its member {name!r} is missing or not {content.decode()}")
    return found


def _json(path: Path, archive: zipfile.ZipFile, members: Members, name: str) -> dict[str, Any]:
    if name not in members:
        raise refused(path, f"not a readable program of this project (it has no {name})")
    if members[name].file_size > MOST_TEXT:
        raise refused(path, f"its member {name!r} has more than {MOST_TEXT // 2**20} MiB")
    try:
        content = json.loads(archive.read(members[name]))
    except RecursionError:
        raise refused(path, f"its member {name!r} is nested too deeply") from None
    if not isinstance(content, dict):
        raise refused(path, f"its member {name!r} is no JSON object")
    return content


def _check_tensors(
    path: Path, archive: zipfile.ZipFile, members: Members, texts: dict[str, dict[str, Any]], layout: GraphLayout
) -> None:
    """Weights and constants: where they lie, sizes, types, values, and whether they are those of the network."""
    used: set[str] = set()
    shapes: dict[str, tuple[int, ...]] = {}
    for config, folder in ((WEIGHTS, "data/weights/"), (CONSTANTS, "data/constants/")):
        for name, entry in texts[config]["config"].items():
            member = folder + str(entry["path_name"])
            if entry["use_pickle"] is not False or not TENSORS.fullmatch(member):
                raise refused(path, f"{name} is a pickle, which could run code; none is opened")
            if member not in members:
                raise refused(path, f"{name} is missing")
            used.add(member)
            shapes[name] = _check_tensor(path, archive, members[member], name, entry["tensor_meta"])
    unused = sorted(name for name in members if TENSORS.fullmatch(name) and name not in used)
    if unused:
        raise refused(path, f"its member {unused[0]!r} is a tensor that nothing uses")
    _check_weights(path, texts[WEIGHTS]["config"].keys(), shapes, layout)
    _check_inputs(path, texts[PROGRAM], layout, {*texts[WEIGHTS]["config"], *texts[CONSTANTS]["config"]})


def _check_tensor(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, meta: dict[str, Any]
) -> tuple[int, ...]:
    sizes, strides = ([_whole(path, name, value) for value in meta[key]] for key in ("sizes", "strides"))
    start, dtype = _whole(path, name, meta["storage_offset"]), DTYPES.get(meta["dtype"])
    if dtype is None or meta["device"]["type"] != "cpu" or len(sizes) != len(strides):
        raise refused(path, f"{name} has a type, a place or strides that no program of this project has")
    last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    needed = 0 if 0 in sizes else last * dtype.itemsize
    if needed > member.file_size or math.prod(sizes) * dtype.itemsize > member.file_size:
        raise refused(path, f"{name} has {member.file_size} bytes, but its shape {sizes} needs {needed}")
    if dtype.is_floating_point and member.file_size:
        values = torch.frombuffer(bytearray(archive.read(member)), dtype=dtype)
        if not bool(values.isfinite().all()):
            raise refused(path, f"{name} has a NaN or infinite value, so this model cannot be used")
    return tuple(sizes)


def _whole(path: Path, name: str, value: Any) -> int:
    number = value.get("as_int") if isinstance(value, dict) else None
    if type(number) is not int or not 0 <= number < 2**63:
        raise refused(path, f"{name} has the size {json.dumps(value)[:60]}; expected a whole number")
    return number


def _check_weights(path: Path, names: Any, shapes: dict[str, tuple[int, ...]], layout: GraphLayout) -> None:
    expected = {f"network.{k}": tuple(v.shape) for k, v in on_meta(layout.facts.network).state_dict().items()}
    given = {name for name in names if name.startswith("network.")}
    others = {name for name in names if not name.startswith(("network.", "inputs.", "probabilities."))}
    for what, found in (("lacks", expected.keys() - given), ("also has", (given - expected.keys()) | others)):
        if found:
            raise refused(path, f"it {what} the weight {min(found)}, unlike the network in its metadata")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise refused(
                path, f"{name} has the shape {list(shapes[name])}, but the network in its metadata needs {list(shape)}"
            )


def _check_inputs(path: Path, program: dict[str, Any], layout: GraphLayout, tensors: set[str]) -> None:
    """Inputs and outputs of the program, and their sizes."""
    module = program["graph_module"]
    inputs, outputs = [], []
    for spec in module["signature"]["input_specs"]:
        for kind, entry in spec.items():
            named = next((value for key, value in entry.items() if key.endswith("_name")), None)
            if kind == "user_input":
                inputs.append(entry["arg"]["as_tensor"]["name"])
            elif kind not in ("parameter", "buffer", "tensor_constant") or named not in tensors:
                raise refused(path, f"its program takes {named or kind!r}, which is not in the file")
    for spec in module["signature"]["output_specs"]:
        for kind, entry in spec.items():
            if kind != "user_output":
                raise refused(path, f"its program changes something besides its outputs ({kind})")
            outputs.append(entry["arg"]["as_tensor"]["name"])
    values = module["graph"]["tensor_values"]
    if inputs != list(layout.shapes) or len(outputs) != len(layout.outputs):
        raise refused(
            path, f"its program takes {', '.join(inputs)} and gives {len(outputs)} outputs, unlike its metadata"
        )
    channels = layout.shapes | dict.fromkeys(("logits",), len(layout.facts.classes))
    for title, name in (*zip(inputs, inputs, strict=True), *zip(layout.outputs, outputs, strict=True)):
        sizes = [size.get("as_int") for size in values[name]["sizes"]]
        if title in channels and (len(sizes) != 4 or sizes[1] != channels[title]):
            raise refused(
                path, f"{title} has the shape {sizes}, but the metadata say {channels[title]} channels or classes"
            )


def _copy(archive: zipfile.ZipFile, members: Members, texts: dict[str, dict[str, Any]]) -> io.BytesIO:
    """An archive of the checked members; guards and notes of a program, which torch evaluates, are left out."""
    program = texts[PROGRAM] | {"guards_code": []}
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    made = {name: json.dumps(texts[name]).encode() for name in (WEIGHTS, CONSTANTS)}
    made |= {PROGRAM: json.dumps(program).encode(), EXAMPLES: b"", ".data/version": b"6\n"} | SMALL
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as copy:
        for name, info in members.items():
            if TENSORS.fullmatch(name):
                copy.writestr(f"archive/{name}", archive.read(info))
        for name, data in made.items():
            copy.writestr(f"archive/{name}", data)
    content.seek(0)
    return content
