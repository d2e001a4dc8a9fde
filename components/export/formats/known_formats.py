"""The formats of a package as data: name -> file, precision, runtime, and how it is written.

A format may have several writers; the first whose file agrees with the network is used. To add a format, write a
function and add an entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig, Format
from components.export.formats.onnx_graph import write_onnx
from model import MoBaNet

FilePrecision = Literal["float32", "float16", "int8"]

Runtime = Literal["onnxruntime", "torch"]


class Writer(Protocol):
    """Writes one file."""

    def __call__(self, path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig, crops: Path) -> None:
        """Write `path`.

        Args:
            path: file to write; earlier formats of the same package lie next to it.
            network: without auxiliary heads, on the CPU, in evaluation mode; must be left as it was.
            facts: its facts.
            config: section `export`.
            crops: file of `write_crops`, for calibration.

        Raises:
            FormatError: this network cannot be written in this format.
        """


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One kind of file."""

    file: str
    precision: FilePrecision  # of the weights
    runtime: Runtime  # that opens it
    writers: Mapping[str, Writer]  # variant -> writer, in the order in which they are tried


def _onnx(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig, crops: Path) -> None:
    write_onnx(path, network, facts, config)


FORMATS: dict[Format, ExportFormat] = {
    "onnx": ExportFormat("model.onnx", "float32", "onnxruntime", {"float32": _onnx}),
    "onnx-float16": ExportFormat("model_float16.onnx", "float16", "onnxruntime", {}),
    "onnx-int8": ExportFormat("model_int8.onnx", "int8", "onnxruntime", {}),
    "qgis": ExportFormat("model_qgis.onnx", "float32", "onnxruntime", {}),
    "pt2": ExportFormat("model.pt2", "float32", "torch", {}),
}
"""Every format, in the order in which a package is written."""
