"""Run a file of a package as a program of somebody else does, without the network's code.

In: an ONNX file or a `.pt2` file of this project. Out: `Runtime`, a function from pixels as stored and heights in
metres to the outputs by name. The file for QGIS gets one raster layer, divided by 255 as Deepness does it.
Letters: N samples, C image bands, K classes, H W pixels of a window.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from components.common.exported.graph_inputs import INPUTS
from components.common.exported.raster_layer import layer_of
from components.common.inference.modelfile import HEADER, ModelFacts

Array = npt.NDArray[np.float32]

Outputs = Mapping[str, npt.NDArray[Any]]
"""Some of `logits` and `probabilities` `[N, K, H, W]`, `classes` `[N, H, W]` and `confidence` `[N, H, W]`."""


TIMED_RUNS = 3


class Runtime(Protocol):
    """An open file."""

    name: str  # onnxruntime or torch
    free_size: bool  # whether inputs may be larger or smaller than a window

    def __call__(self, image_NCHW: Array, dsm_N1HW: Array) -> Outputs:
        """The outputs.

        Args:
            image_NCHW: pixels as stored, NaN: not measured.
            dsm_N1HW: heights as the file takes them, NaN: not measured.
        """


def open_file(path: Path, facts: ModelFacts, threads: int | None = None) -> Runtime:
    """Open a file of a package; whatever its runtime raises for an unusable file passes through.

    Args:
        path: an ONNX or `.pt2` file, which the caller trusts.
        facts: facts of its network.
        threads: of ONNX Runtime; None: those of torch. Torch has one number for the process.
    """
    return _Torch(path) if path.suffix == ".pt2" else _Onnx(path, facts, threads or torch.get_num_threads())


def latency_ms(path: Path, facts: ModelFacts) -> float:
    """Median time of one window on one thread, after a warm-up, milliseconds; arguments as in `open_file`."""
    run, side = open_file(path, facts, threads=1), facts.window_px
    window = [np.zeros((1, channels, side, side), np.float32) for channels in (len(facts.bands), 1)]
    times_s = []
    for _ in range(1 + TIMED_RUNS):
        start = time.perf_counter()
        run(*window)
        times_s.append(time.perf_counter() - start)
    return 1000 * statistics.median(times_s[1:])


class _Onnx:
    """A graph in ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, path: Path, facts: ModelFacts, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [given.name for given in self._session.get_inputs()]
        self.free_size = all(isinstance(side, str) for given in self._session.get_inputs() for side in given.shape[2:])
        self._outputs = [made.name for made in self._session.get_outputs()]
        self._facts = facts

    def __call__(self, image_NCHW: Array, dsm_N1HW: Array) -> Outputs:
        given = dict(zip(INPUTS, (image_NCHW, dsm_N1HW), strict=True))
        if not set(self._inputs) <= given.keys():
            given = dict.fromkeys(self._inputs, layer_of(image_NCHW, dsm_N1HW, self._facts))
        return dict(zip(self._outputs, self._session.run(self._outputs, self._taken(given)), strict=True))

    def _taken(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """What the graph has as inputs: one of a network with one sensor may lack the other."""
        return {name: given[name] for name in self._inputs}


class _Torch:
    """A program of `torch.export` on the CPU."""

    name = "torch"

    def __init__(self, path: Path) -> None:
        extra = {HEADER: ""}
        self._module: Callable[..., Any] = torch.export.load(path, extra_files=extra).module()
        fields = json.loads(extra[HEADER])
        self._outputs: list[str] = fields["outputs"]
        self.free_size = "H" in fields["dynamic"]

    def __call__(self, image_NCHW: Array, dsm_N1HW: Array) -> Outputs:
        with torch.inference_mode():
            made = self._module(torch.from_numpy(image_NCHW), torch.from_numpy(dsm_N1HW))
        return {name: values.numpy() for name, values in zip(self._outputs, made, strict=True)}
