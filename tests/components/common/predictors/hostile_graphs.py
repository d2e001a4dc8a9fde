"""Corrupted and hostile ONNX graphs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.components.common.predictors.hostile import Canary, Change, saved_pickle, truncated
from tests.components.common.predictors.hostile_weights import WEIGHT


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
