"""Derive a smaller graph from the float32 one: read it, change its metadata, write it.

In: a network, or the `model.onnx` that lies next to the new file. Out: an ONNX file whose bytes depend on them only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components.common.errors import MobanetError
from components.common.files import external_weights
from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.onnx_graph import write_onnx
from model import MoBaNet

if TYPE_CHECKING:
    from onnx import ModelProto

SOURCE = "model.onnx"

WEIGHTED = ("Conv", "MatMul", "Gemm")
"""Operations that multiply by weights."""

TWO_GB = 2**31
"""An ONNX file of this size or more needs a second file for its weights."""


class FormatError(MobanetError):
    """A network cannot be written in a format."""


@contextmanager
def float32_graph(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> Iterator[Path]:
    """The float32 graph of a network: the file next to `path`, or one that is written for this purpose."""
    source = path.with_name(SOURCE)
    if source.is_file():
        yield source
        return
    with TemporaryDirectory() as folder:
        source = Path(folder) / SOURCE
        write_onnx(source, network, facts, config)
        yield source


def save(path: Path, graph: ModelProto, like: ModelProto, format: str, precision: str) -> None:
    """Write a graph with the metadata of another one; format and precision are its own.

    Args:
        path: file to write.
        graph: the graph.
        like: the float32 graph.
        format: name of the format.
        precision: of the weights.
    """
    import onnx

    own = {"format": json.dumps(format), "precision_of_file": json.dumps(precision)}
    del graph.metadata_props[:]
    for entry in like.metadata_props:
        graph.metadata_props.add(key=entry.key, value=own.get(entry.key, entry.value))
    graph.ir_version, graph.producer_name, graph.producer_version = like.ir_version, like.producer_name, ""
    graph.doc_string = ""
    onnx.save(graph, path, save_as_external_data=graph.ByteSize() >= TWO_GB, location=external_weights(path).name)
    onnx.checker.check_model(str(path))


def between_weights(graph: ModelProto) -> set[str]:
    """Names of the nodes with an operation of `WEIGHTED` both before and after them, or that are one themselves.

    The others prepare the inputs, such as heights in metres, and the answers, such as the largest logit.
    """
    after: set[str] = set()  # values that depend on a weighted operation
    for node in graph.graph.node:
        if node.op_type in WEIGHTED or any(name in after for name in node.input):
            after.update(node.output)
    before: set[str] = set()  # values that a weighted operation depends on
    found: set[str] = set()
    for node in reversed(graph.graph.node):
        weighted = node.op_type in WEIGHTED
        if weighted or any(name in before for name in node.output):
            before.update(node.input)
            if weighted or any(name in after for name in node.input):
                found.add(node.name)
    return found
