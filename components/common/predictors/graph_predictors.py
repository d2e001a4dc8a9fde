"""Exported files as predictors: ONNX graphs in ONNX Runtime, and programs of torch, both on the CPU.

In: an `.onnx` or `.pt2` file. Out: a `Predictor`. A file is checked before a runtime opens it.
Letters: B batch, K classes, H W pixels of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.common.errors import ParamsError, WeightsError, reason
from components.common.exported.graph_file import check_graph
from components.common.exported.graph_layout import AGAIN, Computed, GraphLayout, Values
from components.common.exported.program_file import check_program
from components.common.predictors.predictor import Maps, ModelIdentity
from model.inputs import padded_side
from model.mobanet import on_meta

Answer = Callable[[dict[str, Values]], Tensor]
"""Inputs by name -> the output `GraphLayout.wanted`, float32."""


class GraphPredictor:
    """An exported file in its runtime, on the CPU, with the precision of its weights."""

    has_gates, device = False, torch.device("cpu")
    by_condition = False  # the file decides for every window of a batch

    def __init__(
        self, name: str, layout: GraphLayout, answer: Answer, identity: ModelIdentity, window_px: int, *, fixed: bool
    ) -> None:
        """Take an open file; `name` is for messages, and `fixed` says whether its window cannot change."""
        self._name, self._layout, self._answer = name, layout, answer
        self.facts, self.identity, self.window_px, self.fixed_window = layout.facts, identity, window_px, fixed
        self.patch_size = on_meta(layout.facts.network).patch_size if fixed else layout.multiple_px
        self.precision: Computed = layout.precision

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        """Logits of a batch of windows; see `Predictor`.

        Raises:
            WeightsError: the file cannot compute them.
        """
        try:
            answer_BKHW = self._answer(self._layout.inputs(image_BCHW, dsm_B1HW))
        except Exception as error:  # each runtime has classes of its own
            raise WeightsError(f"{self._name}: cannot compute a window ({reason(error)}); {AGAIN}") from error
        return Maps(self._layout.logits(answer_BKHW, image_BCHW, dsm_B1HW), None)


def open_graph(path: Path, identity: ModelIdentity, window_px: int | None) -> GraphPredictor:
    """Open an `.onnx` file.

    Raises:
        WeightsError: the file is no graph of this project, or is damaged.
        ParamsError: it has a fixed window of another size.
    """
    import onnxruntime

    layout = check_graph(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class per cause
        raise WeightsError(f"{path}: not a readable graph of this project ({reason(error)}); {AGAIN}") from None
    shapes = {given.name: given.shape for given in session.get_inputs()}
    batch, _, height, width = next(iter(shapes.values()))
    side = _side(path, layout, window_px, fixed=isinstance(height, int) or isinstance(width, int))

    def answer(inputs: dict[str, Values]) -> Tensor:
        given = {name: inputs[name] for name in shapes}
        if batch == 1:
            rows = [{name: x[i : i + 1] for name, x in given.items()} for i in range(len(next(iter(given.values()))))]
            return torch.cat([torch.from_numpy(session.run([layout.wanted], row)[0]) for row in rows])
        return torch.from_numpy(session.run([layout.wanted], given)[0])

    return GraphPredictor(path.name, layout, answer, identity, side[0], fixed=side[1])


def open_program(path: Path, identity: ModelIdentity, window_px: int | None) -> GraphPredictor:
    """Open a `.pt2` file; errors as with `open_graph`."""
    layout, archive = check_program(path)
    try:
        module: Any = torch.export.load(archive).module()
    except Exception as error:  # whatever torch finds
        raise WeightsError(f"{path}: not a readable program of this project ({reason(error)}); {AGAIN}") from None
    side = _side(path, layout, window_px, fixed="H" not in layout.dynamic)

    def answer(inputs: dict[str, Values]) -> Tensor:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(x) for x in inputs.values()))
        found = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return found[layout.outputs.index(layout.wanted)]

    return GraphPredictor(path.name, layout, answer, identity, side[0], fixed=side[1])


def _side(path: Path, layout: GraphLayout, window_px: int | None, *, fixed: bool) -> tuple[int, bool]:
    """Side of a window, and whether it cannot change."""
    side = layout.facts.window_px
    if not fixed:
        return padded_side(window_px or side, layout.multiple_px), False
    if window_px not in (None, side):
        raise ParamsError(
            f"predict.window_px is {window_px}, but the windows of {path.name} are fixed to {side} px; set it to null, "
            "or use the .safetensors file"
        )
    return side, True
