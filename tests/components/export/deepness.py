"""What QGIS Deepness does with a model and a raster layer, by the rules in ../shared/spec/export.md; not its code.

Needs NumPy and ONNX Runtime only, so it also runs in an environment with the old versions that the plugin pins:
`python deepness.py MODEL.onnx RASTER.npy CLASSES.npy`, which prints the version of ONNX Runtime and writes the classes.
Letters: H W pixels of the raster, S side of a tile, C channels, K classes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import numpy as np
import onnxruntime


@dataclass(frozen=True)
class Settings:
    """What the plugin takes from the metadata of a model; the right side is what it takes without."""

    model_type: str | None = None
    class_names: dict[int, str] | None = None
    resolution_cm: float | None = None
    tile_px: int | None = None
    overlap_percent: float = 15.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    threshold: float = 0.5
    small_segment: int = 11


class Model:
    """A model as the plugin opens it: it refuses what it cannot feed."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            raise ValueError(f"{len(inputs)} inputs; the plugin feeds one")
        shape = inputs[0].shape
        if len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]) or shape[2] != shape[3]:
            raise ValueError(f"input {shape}; the plugin feeds [batch, channels, side, side] with a fixed side")
        if isinstance(shape[0], int) and shape[0] != 1:
            raise ValueError(f"input {shape}; a fixed batch must be 1")
        if inputs[0].type != "tensor(float)":
            raise ValueError(f"input of {inputs[0].type}; the plugin feeds float32")
        result = outputs[0].shape
        if len(outputs) != 1 or len(result) != 4 or result[2:] != shape[2:]:
            raise ValueError(f"output {result}; the plugin expects [batch, classes, side, side]")
        self._input, self.channels, self.side, self.classes = inputs[0].name, shape[1], shape[2], result[1]
        self.settings = settings(self._session.get_modelmeta().custom_metadata_map)

    def probabilities(self, tile_SSC: np.ndarray) -> np.ndarray:
        """Answer for one tile, `[K, S, S]`: channels in the order of the layer's bands, 1/255, mean and std."""
        tile = tile_SSC.astype(np.float32) * np.float32(1 / 255)
        if self.settings.mean is not None and self.settings.std is not None:
            tile = (tile - np.float32(self.settings.mean)) / np.float32(self.settings.std)
        batch_1CSS = np.ascontiguousarray(tile.transpose(2, 0, 1)[None])
        return self._session.run(None, {self._input: batch_1CSS})[0][0]


def settings(metadata: dict[str, str]) -> Settings:
    """Parse metadata: every value is JSON; the side of a tile has one of two names."""
    known = {name: json.loads(value) for name, value in metadata.items() if name in METADATA}
    values = {METADATA[name]: value for name, value in known.items()}
    if "class_names" in values:
        values["class_names"] = {int(index): name for index, name in values["class_names"].items()}
    return Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


METADATA = {
    "model_type": "model_type",
    "class_names": "class_names",
    "resolution": "resolution_cm",
    "tile_size": "tile_px",
    "tiles_size": "tile_px",
    "tiles_overlap": "overlap_percent",
    "standardization_mean": "mean",
    "standardization_std": "std",
    "seg_thresh": "threshold",
    "seg_small_segment": "small_segment",
}


def segment(model: Model, raster_HWC: np.ndarray, overlap_px: int | None = None) -> np.ndarray:
    """Class of every pixel, uint8 `[H, W]`.

    Half of the overlap lies before the first pixel; whatever a tile covers beyond the raster is 0. Of two tiles that
    overlap, each gives the half of the overlap next to it. The threshold acts before the largest probability is sought.

    Args:
        model: an open model.
        raster_HWC: the bands of one raster layer, raw numbers.
        overlap_px: how far tiles overlap; None: as the metadata say.
    """
    side, margin = model.side, tiles_margin(model, overlap_px)
    height, width, channels = raster_HWC.shape
    if channels != model.channels:
        raise ValueError(f"the layer has {channels} bands, the model has {model.channels} channels")
    step = side - 2 * margin
    rows, columns = -(-height // step), -(-width // step)
    padded = np.zeros((rows * step + 2 * margin, columns * step + 2 * margin, channels), np.float32)
    padded[margin : margin + height, margin : margin + width] = raster_HWC
    classes = np.zeros((rows * step, columns * step), np.uint8)
    for top in range(0, rows * step, step):
        for left in range(0, columns * step, step):
            found_KSS = model.probabilities(padded[top : top + side, left : left + side])
            inner = found_KSS[:, margin : margin + step, margin : margin + step]
            certain = np.where(inner < model.settings.threshold, np.float32(0), inner)
            classes[top : top + step, left : left + step] = certain.argmax(0)
    return classes[:height, :width]


def tiles_margin(model: Model, overlap_px: int | None) -> int:
    """Half of the overlap, pixels."""
    if overlap_px is None:
        overlap_px = int(model.side * model.settings.overlap_percent / 100)
    return overlap_px // 2


if __name__ == "__main__":
    onnx_file, raster, output, *overlap = sys.argv[1:]
    np.save(output, segment(Model(onnx_file), np.load(raster), *map(int, overlap)))
    print(onnxruntime.__version__, np.__version__)
