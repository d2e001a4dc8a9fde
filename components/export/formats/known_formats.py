"""The formats of a package as data: name -> file, precision, runtime, and how it is written.

A format may have several writers; the first whose file agrees with the network is used. To add a format, write a
function and add an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig, Format
from components.export.formats.float16 import write_float16
from components.export.formats.int8 import write_int8_dynamic, write_int8_weights
from components.export.formats.onnx_graph import write_onnx
from components.export.formats.qgis import write_qgis
from components.export.formats.torch_program import write_pt2
from model import MoBaNet

FilePrecision = Literal["float32", "float16", "int8"]

Runtime = Literal["onnxruntime", "torch"]


Writer = Callable[[Path, MoBaNet, ModelFacts, ExportConfig], None]
"""Writes one file: its path, next to which earlier formats of the package lie; the network without auxiliary heads, on
the CPU and in evaluation mode, which must be left as it was; its facts; section `export`. A network that cannot be
written in this format is an error of any class."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One kind of file."""

    file: str
    precision: FilePrecision  # of the weights
    runtime: Runtime  # that opens it
    writers: Mapping[str, Writer]  # variant -> writer, in the order in which they are tried


FORMATS: dict[Format, ExportFormat] = {
    "onnx": ExportFormat("model.onnx", "float32", "onnxruntime", {"float32": write_onnx}),
    "onnx-float16": ExportFormat("model_float16.onnx", "float16", "onnxruntime", {"float16": write_float16}),
    "onnx-int8": ExportFormat(
        "model_int8.onnx",
        "int8",
        "onnxruntime",
        {"dynamic": write_int8_dynamic, "weights": write_int8_weights},
    ),
    "qgis": ExportFormat("model_qgis.onnx", "float32", "onnxruntime", {"float32": write_qgis}),
    "pt2": ExportFormat("model.pt2", "float32", "torch", {"float32": write_pt2}),
}
"""Every format, in the order in which a package is written."""
