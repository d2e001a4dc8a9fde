"""Corrupted and hostile model files, all made of one toy model; what they try to run would write a canary file."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

CANARY = Path(f"/tmp/mobanet_canary_{os.getpid()}")
COMMAND = f"touch {CANARY}"
PYTHON = f"__import__('os').system({COMMAND!r})"

Change = Callable[[bytes], bytes]


class Canary:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (COMMAND,)


def truncated(shares: tuple[float, ...]) -> Iterator[tuple[str, Change]]:
    for share in shares:
        yield f"truncated-{share}", lambda data, share=share: data[: int(len(data) * share)]
    yield "truncated-1-byte", lambda data: data[:-1]


def saved_pickle(data: bytes) -> bytes:
    content = io.BytesIO()
    torch.save({"a": Canary()}, content)
    return content.getvalue()


# --- safetensors


def header(edit: Callable[[dict], None]) -> Change:
    """Change the header of a safetensors file; the tensors stay."""

    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + size])
        edit(content)
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return change


def facts(**changes) -> Change:
    def edit(content: dict) -> None:
        known = json.loads(content["__metadata__"]["mobanet"])
        for name, value in changes.items():
            outer, _, inner = name.partition("__")
            if inner:
                known[outer][inner] = value
            else:
                known[outer] = value
        content["__metadata__"]["mobanet"] = json.dumps(known)

    return header(edit)


WEIGHT = "decoder.classifier.1.weight"


def entry(**changes) -> Change:
    return header(lambda content: content[WEIGHT].update(changes))


def length(value: int | Callable[[int], int]) -> Change:
    def change(data: bytes) -> bytes:
        old = struct.unpack("<Q", data[:8])[0]
        return struct.pack("<Q", value(old) if callable(value) else value) + data[8:]

    return change


def raw_header(text: bytes) -> Change:
    return lambda data: struct.pack("<Q", len(text)) + text


def weights(value: float) -> Change:
    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        start = json.loads(data[8 : 8 + size])[WEIGHT]["data_offsets"][0] + 8 + size
        return data[:start] + struct.pack("<f", value) + data[start + 4 :]

    return change


def extra_tensor(content: dict) -> None:
    end = max(value["data_offsets"][1] for name, value in content.items() if name != "__metadata__")
    content["stranger"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


SAFETENSORS: dict[str, Change] = {
    **dict(truncated((0, 0.00001, 0.001, 0.01, 0.1, 0.5, 0.9))),
    "length-0": length(0),
    "length-1": length(1),
    "length-short": length(lambda old: old - 1),
    "length-long": length(lambda old: old + 1),
    "length-2**31": length(2**31),
    "length-2**63": length(2**63),
    "length-2**64": length(2**64 - 1),
    "header-list": raw_header(b"[1, 2, 3]"),
    "header-deep": raw_header(b"[" * 100_000),
    "header-pickle": lambda data: raw_header(pickle.dumps(Canary()))(data),
    "pickle": lambda data: pickle.dumps(Canary()),
    "pickle-of-torch": saved_pickle,
    "trailing": lambda data: data + b"more",
    "type-unknown": entry(dtype="CANARY"),
    "type-longer": entry(dtype="F64"),
    "type-whole": entry(dtype="I32"),
    "shape-huge": entry(shape=[2**40, 2**20]),
    "shape-overflow": entry(shape=[2**62, 2**62]),
    "shape-negative": entry(shape=[-6, 16, 1, 1]),
    "shape-other": entry(shape=[16, 6, 1, 1]),
    "offsets-beyond": entry(data_offsets=[0, 2**40]),
    "offsets-reversed": entry(data_offsets=[400, 0]),
    "metadata-none": header(lambda content: content.pop("__metadata__")),
    "metadata-no-json": header(lambda content: content["__metadata__"].update(mobanet="{")),
    "metadata-list": header(lambda content: content["__metadata__"].update(mobanet="[]")),
    "tensor-more": header(extra_tensor),
    "tensor-less": header(lambda content: content.update(renamed=content.pop(WEIGHT))),
    "weights-nan": weights(float("nan")),
    "weights-infinite": weights(float("inf")),
    "classes-count": facts(classes=["a", "b"]),
    "classes-network": facts(network__num_classes=7),
    "classes-types": facts(classes=[1, 2, 3, 4, 5, 6]),
    "palette": facts(palette=[[0, 0, 300]] * 6),
    "bands": facts(bands=["red"]),
    "depth": facts(network__backbone_args={"patch_size": 8, "img_size": 64, "depth": 60_000}),
    "device": facts(network__backbone_args={"patch_size": 8, "img_size": 65_536, "device": "cpu"}),
    "checkpoint": facts(network__backbone_args={"checkpoint_path": "/tmp/evil.pth"}),
    "backbone": facts(network__backbone="hf-hub:evil/evil"),
    "range": facts(image_range=[255, 0]),
    "heights": facts(heights__scale_m=0),
    "clip": facts(heights__clip=["low", "high"]),
    "window": facts(window_px=2**40),
    "field": facts(surprise=1),
}


# --- ONNX


def proto(edit: Callable[[onnx.ModelProto], None]) -> Change:
    def change(data: bytes) -> bytes:
        model = onnx.ModelProto.FromString(data)
        edit(model)
        return model.SerializeToString()

    return change


def property_(name: str, value: object) -> Change:
    def edit(model: onnx.ModelProto) -> None:
        (found,) = [entry for entry in model.metadata_props if entry.key == name]
        found.value = json.dumps(value)

    return proto(edit)


def of_network(**changes) -> Change:
    def edit(model: onnx.ModelProto) -> None:
        (found,) = [entry for entry in model.metadata_props if entry.key == "network"]
        found.value = json.dumps(json.loads(found.value) | changes)

    return proto(edit)


def initializer(edit: Callable[[TensorProto], None], part: str = WEIGHT) -> Change:
    def change(model: onnx.ModelProto) -> None:
        (found,) = [tensor for tensor in model.graph.initializer if tensor.name == f"network.{part}"]
        edit(found)

    return proto(change)


def external(location: str, **fields: str) -> Change:
    def edit(tensor: TensorProto) -> None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": location} | fields).items():
            tensor.external_data.add(key=key, value=value)

    return initializer(edit)


def with_nan(tensor: TensorProto) -> None:
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] = np.nan
    tensor.raw_data = values.tobytes()


def resized(*dims: int) -> Change:
    return initializer(lambda tensor: (tensor.ClearField("dims"), tensor.dims.extend(dims)))


def operator(kind: str, domain: str = "") -> Change:
    return proto(lambda model: model.graph.node.append(helper.make_node(kind, ["image"], ["x"], domain=domain)))


def imported(domain: str) -> Change:
    return proto(lambda model: model.opset_import.append(helper.make_opsetid(domain, 1)))


def of_size(kind: str, *sizes: int) -> Change:
    """An operator that makes a tensor of a constant size."""

    def edit(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "size"))
        inputs = ["size"] if kind == "ConstantOfShape" else ["image", "size"]
        model.graph.node.append(helper.make_node(kind, inputs, ["huge"]))

    return proto(edit)


def made_of_constant(kind: str, *sizes: int) -> Change:
    """An operator whose size another operator states."""

    def edit(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Constant", [], ["size"], value_ints=sizes))
        model.graph.node.append(helper.make_node(kind, ["size"], ["huge"]))

    return proto(edit)


def sparse(model: onnx.ModelProto) -> None:
    values = TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="/etc/passwd")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    constant = helper.make_sparse_tensor(values, indices, [1])
    model.graph.node.append(helper.make_node("Constant", [], ["x"], sparse_value=constant))


def unused(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "network.stranger"))


ONNX: dict[str, Change] = {
    **dict(truncated((0, 0.001, 0.01, 0.1, 0.5, 0.9))),
    "noise": lambda data: np.random.default_rng(0).bytes(1000),
    "pickle": lambda data: pickle.dumps(Canary()),
    "pickle-of-torch": saved_pickle,
    "metadata-none": proto(lambda model: model.ClearField("metadata_props")),
    "classes-count": property_("classes", ["a", "b"]),
    "classes-other": of_network(num_classes=7),
    "other-network": of_network(decoder_channels=32),
    "other-backbone": of_network(backbone="vit_tiny_patch16_224"),
    "unknown-backbone": of_network(backbone="evil"),
    "arguments": of_network(backbone_args={"norm_layer": ["evil"]}),
    "heights-other": property_("dsm_values", "scaled"),
    "outputs-other": property_("outputs", ["classes"]),
    "outputs-unknown": property_("outputs", ["logits", "shell"]),
    "precision": property_("precision_of_file", "int2"),
    "sides": property_("multiple_px", -8),
    "domain": imported("com.evil"),
    "operator": operator("Shell", "com.evil"),
    "operator-of-files": operator("EPContext", "com.microsoft"),
    "operator-unknown": operator("NoSuchOperator"),
    "functions": proto(lambda model: model.functions.add(name="f", domain="com.evil")),
    "training": proto(lambda model: model.training_info.add()),
    "external-parent": external("../weights.bin"),
    "external-absolute": external("/etc/passwd"),
    "external-other": external("other.data"),
    "external-missing": external("bad.onnx.data"),
    "external-empty": external(""),
    "weights-nan": initializer(with_nan),
    "shape-huge": resized(2**40, 2**20),
    "shape-overflow": resized(2**62, 2**62),
    "shape-negative": resized(-1, 16, 1, 1),
    "shape-other": resized(16, 6, 1, 1),
    "type": initializer(lambda tensor: setattr(tensor, "data_type", 999)),
    "type-longer": initializer(lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE)),
    "bytes-missing": initializer(lambda tensor: setattr(tensor, "raw_data", tensor.raw_data[:-4])),
    "tensor-more": proto(unused),
    "size-huge": of_size("ConstantOfShape", 2**40),
    "size-of-constant": made_of_constant("ConstantOfShape", 2**40),
    "sparse": proto(sparse),
    "name-of-lines": initializer(lambda tensor: setattr(tensor, "name", "evil\n\x1b[2J" * 200)),
    "size-many": of_size("Expand", 2**16, 2**16, 2**16),
    "output": proto(lambda model: setattr(model.graph.output[0], "name", "answer")),
    "input": proto(lambda model: setattr(model.graph.input[0], "name", "picture")),
    "input-type": proto(lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE)),
    "input-bands": proto(lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 2**40)),
}


# --- programs of torch


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

CASES = [
    (ending, name, change)
    for ending, changes in {"safetensors": SAFETENSORS, "onnx": ONNX, "pt2": PT2}.items()
    for name, change in changes.items()
]
