"""Export a network as an ONNX graph that includes normalisation and the handling of missing values.

In: a network and its facts. Out: `model.onnx`, float32, with the inputs `image` `[N, bands, H, W]`, 0..255, and `dsm`
`[N, 1, H, W]`, scaled heights, and the output `logits` `[N, K, H, W]`. N is dynamic; H and W are fixed to the window
size of training. NaN in an input means "not measured"; a sample whose input is NaN everywhere lacks that sensor. The
graph computes it as the network computes a batch without that sensor, also next to samples with other sensors.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from components.common.inference.modelfile import ModelFacts
from model import MoBaNet
from model.inputs import normalise
from model.speed import fuse_attention

if TYPE_CHECKING:
    from onnx_ir import Model

INPUTS = ("image", "dsm")
OUTPUT = "logits"

MISSING = "NaN"
"""Value of a pixel that a sensor did not measure; a sensor that a sample lacks is this value everywhere."""

RUNS = 3
"""Number of timed runs of the graph."""


class Servable(nn.Module):
    """The network, preceded by the normalisation of its inputs."""

    def __init__(self, network: MoBaNet, facts: ModelFacts) -> None:
        """Wrap a network; `facts` contain mean and standard deviation of its image input."""
        super().__init__()
        self.network = network
        self.image_mean, self.image_std = facts.image_mean, facts.image_std

    def forward(self, image: Tensor, dsm: Tensor) -> Tensor:
        """Logits `[N, K, H, W]`; what NaN means is decided for every sample by itself.

        Args:
            image: `[N, bands, H, W]`, 0..255.
            dsm: `[N, 1, H, W]`, scaled heights.
        """
        return self.network(*normalise(image, dsm, self.image_mean, self.image_std))


def input_shapes(facts: ModelFacts) -> dict[str, tuple[int, int, int]]:
    """Shape of one sample of each input: (channels, rows, columns)."""
    side = facts.window_px
    return {"image": (len(facts.bands), side, side), "dsm": (1, side, side)}


def metadata(facts: ModelFacts) -> dict[str, str]:
    """The facts of a model as ONNX metadata: one entry per field, with its value as JSON."""
    return {name: json.dumps(value, allow_nan=False) for name, value in asdict(facts).items()}


def write_onnx(path: Path, network: MoBaNet, facts: ModelFacts, opset: int) -> None:
    """Write the graph to `path`; weights above 2 GB, the limit of an ONNX file, go to a second file next to it."""
    import onnx
    import onnx_ir

    fuse_attention(network, False)  # the exporter supports fused attention for four dimensions only; SAM has three
    samples = torch.export.Dim("N")
    examples = tuple(torch.zeros(2, *shape) for shape in input_shapes(facts).values())
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)  # they log every node
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name")  # both inputs have the same N on purpose
        program = torch.onnx.export(
            Servable(network, facts).eval(),
            examples,
            dynamo=True,
            opset_version=opset,
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes={name: {0: samples} for name in INPUTS},
            verbose=False,
        )
    assert program is not None
    _forget_source(program.model)
    logits = program.model.graph.outputs[0]
    logits.shape = onnx_ir.Shape(["N", len(facts.classes), facts.window_px, facts.window_px])
    program.model.metadata_props.update(metadata(facts))
    program.save(str(path))
    onnx.checker.check_model(str(path))


def _forget_source(model: Model) -> None:
    """Remove the source location of every node: it contains paths of the exporting machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None


def describe(path: Path, facts: ModelFacts, opset: int) -> dict[str, Any]:
    """The graph as `export.json` records it: inputs, size with its weights, and latency of one window on one core."""
    files = [file for file in (path, path.with_name(f"{path.name}.data")) if file.is_file()]
    return {
        "opset": opset,
        "missing": MISSING,
        "inputs": input_shapes(facts),
        "classes": len(facts.classes),
        "bytes": sum(file.stat().st_size for file in files),
        "latency_ms": round(latency_ms(path, facts), 3),
    }


def latency_ms(path: Path, facts: ModelFacts) -> float:
    """Median time of one window in ONNX Runtime on one thread of the CPU, after a warm-up, milliseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    window = {name: np.zeros((1, *shape), np.float32) for name, shape in input_shapes(facts).items()}
    times_s = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        session.run([OUTPUT], window)
        times_s.append(time.perf_counter() - start)
    return 1000 * statistics.median(times_s[1:])
