"""Corrupted and hostile programs of torch, `.pt2`."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable

from tests.components.common.predictors.hostile import PYTHON, Canary, Change, saved_pickle, truncated
from tests.components.common.predictors.hostile_weights import WEIGHT


def members(edit: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> Change:
    """Change the members of a program; names are those below the folder of the archive."""

    def change(data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
        edit(found)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", compression) as archive:
            for name, value in found.items():
                archive.writestr(name.removeprefix("|") if name.startswith("|") else f"archive/{name}", value)
        return content.getvalue()

    return change


def added(name: str, content: bytes) -> Change:
    return members(lambda found: found.update({name: content}))


def text(name: str, edit: Callable[[dict], object]) -> Change:
    def change(found: dict[str, bytes]) -> None:
        content = json.loads(found[name])
        edit(content)
        found[name] = json.dumps(content).encode()

    return members(change)


PROGRAM, EXTRA = "models/model.json", "extra/mobanet"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


def program(edit: Callable[[dict], object]) -> Change:
    return text(PROGRAM, edit)


def node(**changes) -> Change:
    return program(lambda content: content["graph_module"]["graph"]["nodes"][5].update(changes))


def argument(value: dict) -> Change:
    return program(lambda c: c["graph_module"]["graph"]["nodes"][5]["inputs"].append({"name": "x", "arg": value}))


def weight(**changes) -> Change:
    return text(WEIGHTS, lambda content: content["config"][f"network.{WEIGHT}"].update(changes))


def tensor(**changes) -> Change:
    return text(WEIGHTS, lambda content: content["config"][f"network.{WEIGHT}"]["tensor_meta"].update(changes))


def expression(value: str) -> Change:
    size = {"as_expr": {"expr_str": value, "hint": {"as_int": 2}}}
    return program(lambda content: content["graph_module"]["graph"]["sym_int_values"].update(evil=size))


def extra_weight(content: dict) -> None:
    content["config"]["network.stranger"] = content["config"][f"network.{WEIGHT}"]


def nan_weight(found: dict[str, bytes]) -> None:
    name = json.loads(found[WEIGHTS])["config"][f"network.{WEIGHT}"]["path_name"]
    found[f"data/weights/{name}"] = struct.pack("<f", float("nan")) + found[f"data/weights/{name}"][4:]


def empty_huge(found: dict[str, bytes]) -> None:
    """No bytes, but a large size: torch would allocate zeros."""
    content = json.loads(found[WEIGHTS])
    entry = content["config"][f"network.{WEIGHT}"]
    entry["tensor_meta"] |= {"sizes": [{"as_int": 2**36}], "strides": [{"as_int": 1}]}
    found[f"data/weights/{entry['path_name']}"] = b""
    found[WEIGHTS] = json.dumps(content).encode()


def lying_sizes(data: bytes) -> bytes:
    """The list of members says that one of them is huge."""
    at = data.rindex(b"archive/models/model.json") - 46
    return data[: at + 20] + struct.pack("<II", 2**31, 2**31) + data[at + 28 :]


def twice(data: bytes) -> bytes:
    content = io.BytesIO(data)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(next(name for name in archive.namelist() if name.endswith(PROGRAM)), b"{}")
    return content.getvalue()


def earlier_format(data: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("version", "8.20")
        for name in ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt"):
            archive.writestr(name, saved_pickle(b""))
    return content.getvalue()


PT2: dict[str, Change] = {
    **dict(truncated((0, 0.001, 0.1, 0.5, 0.9))),
    "pickle": lambda data: pickle.dumps(Canary()),
    "pickle-of-torch": saved_pickle,
    "bomb": members(lambda found: found.update({"data/weights/weight_99999": bytes(2**27)}), zipfile.ZIP_DEFLATED),
    "sizes-that-lie": lying_sizes,
    "member-twice": twice,
    "member-parent": added("../../evil", b"x"),
    "member-absolute": added("|/etc/evil", b"x"),
    "member-library": added("data/aotinductor/model/evil.so", b"x"),
    "examples": added("data/sample_inputs/model.pt", saved_pickle(b"")),
    "earlier-weights": added("data/weights/model.pt", saved_pickle(b"")),
    "earlier-constants": added("data/constants/model.pt", saved_pickle(b"")),
    "object": added("data/constants/opaque_obj_0", pickle.dumps(Canary())),
    "second-program": added("models/other.json", b"{}"),
    "earlier-format": earlier_format,
    "byteorder": added("byteorder", b"big"),
    "deep": added(PROGRAM, b"[" * 200_000),
    "no-json": added(PROGRAM, b"{"),
    "list": added(PROGRAM, b"[]"),
    "no-metadata": members(lambda found: found.pop(EXTRA)),
    "weights-pickle": weight(use_pickle=True),
    "weights-elsewhere": weight(path_name="../../etc/passwd"),
    "weights-missing": weight(path_name="weight_99999"),
    "weights-nan": members(nan_weight),
    "tensor-more": text(WEIGHTS, extra_weight),
    "tensor-less": text(WEIGHTS, lambda content: content["config"].pop(f"network.{WEIGHT}")),
    "shape-huge": tensor(sizes=[{"as_int": 2**40}] * 4),
    "shape-empty": members(empty_huge),
    "shape-text": tensor(sizes=[{"as_expr": {"expr_str": PYTHON}}] * 4),
    "strides": tensor(strides=[{"as_int": 2**40}] * 4),
    "type": tensor(dtype=99),
    "device": tensor(device={"type": "cuda", "index": 0}),
    "guard": program(lambda content: content.update(guards_code=[PYTHON])),
    "expression": expression(PYTHON),
    "expression-attribute": expression("Symbol('s0').__class__.__init__"),
    "expression-power": expression("Integer(9)**Integer(9)**Integer(9)"),
    "constraint": program(lambda content: content.update(range_constraints={PYTHON: {"min_val": 0, "max_val": 1}})),
    "target-function": node(target="torch.os.system"),
    "target-inner": node(target="torch.ops.aten.add.__class__"),
    "target-file": node(target="torch.ops.aten.from_file.default"),
    "target-save": node(target="torch.ops.aten.save.default"),
    "target-print": node(target="torch.ops.aten._print.default"),
    "target-settings": node(target="torch.ops.aten.set_grad_enabled.default"),
    "target-unchecked": node(target="torch.ops.aten._nested_view_from_buffer.default"),
    "text-list": text(CONSTANTS, lambda content: content.update(config=[1])),
    "text-infinite": node(inputs=[{"name": "x", "arg": {"as_ints": [float("inf")]}}]),
    "text-module": program(lambda content: content.update(graph_module=[])),
    "target-load": node(target="torch.load"),
    "target-library": node(target="torch.ops.evil.run.default"),
    "notes": node(metadata={"source_fn_stack": "x,torch.os.system"}),
    "argument-operator": argument({"as_operator": "torch.os.system"}),
    "argument-object": argument({"as_custom_obj": {"name": "evil", "class_fqn": "evil"}}),
    "argument-huge": argument({"as_ints": [2**20, 2**20, 2**20]}),
    "classes-defined": program(lambda c: c["graph_module"].update(treespec_namedtuple_fields={"os": ["system"]})),
    "structure": program(
        lambda c: c["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec=json.dumps([1, {"type": "os.system", "context": "null", "children_spec": []}])
        )
    ),
    "classes-count": text(EXTRA, lambda content: content.update(classes=["a", "b"])),
    "other-network": text(EXTRA, lambda content: content["network"].update(decoder_channels=32)),
    "outputs-other": text(EXTRA, lambda content: content.update(outputs=["classes"])),
}
