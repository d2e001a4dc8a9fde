"""Predict arrays in memory, or files without writing a map: what a service or a notebook calls.

In: an image, heights, or both. Out: classes and confidence per pixel, those of `mobanet predict` for such files.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.errors import DataError, ParamsError
from components.common.inference.modelfile import ModelFacts
from components.common.predictors.predictor import Predictor
from components.common.readers.scene import Scene, SceneFiles, open_scene
from components.predict.config import PredictConfig
from components.predict.inputs.array_scene import array_scene
from components.predict.inputs.scene_inputs import Inputs, trained_layers
from components.predict.inputs.suitability import CHECKS, objections
from components.predict.outputs.map_layers import layer_names, layers_of
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice
from components.predict.scores.meter import Meter

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ArrayMap:
    """The map of arrays; a pixel without a class is 255, and 0 in `sensors_HW`."""

    classes_HW: Bytes  # index in the model's classes
    confidence_HW: Bytes  # probability of the class, percent
    sensors_HW: Bytes  # 0 no class, 1 image, 2 DSM, 3 both
    gates_HW: Bytes | None  # weight of the image, percent; None: the network has no gates


def predict_arrays(
    predictor: Predictor,
    config: PredictConfig,
    image_HWC: npt.NDArray[np.uint8] | None,
    dsm_HW: npt.NDArray[np.floating[Any]] | None,
    *,
    gsd_m: float | None = None,
    allow: Collection[str] = (),
    most_px: int | None = None,
) -> ArrayMap:
    """Classify arrays with an open model.

    Args:
        predictor: the network.
        config: section `predict`; only `overlap` and `batch_size` matter.
        image_HWC: bands in the model's order, with the pixel values of an image file; None: no image.
        dsm_HW: metres, NaN = not measured; None: no DSM. A DSM without a height is treated as None.
        gsd_m: ground size of a pixel, metres; None: that of the model.
        allow: codes of the checks of `mobanet predict` whose objections are overruled.
        most_px: limit of height times width; None: no limit.

    Raises:
        DataError: the arrays cannot be used, or the model was not trained for such pixels or heights.
        ParamsError: `allow` has an unknown code.
        NonFiniteError: the network gives logits that are NaN or infinite.
    """
    facts = predictor.facts
    image = None if image_HWC is None else _checked_image(image_HWC, facts, most_px)
    dsm = None if dsm_HW is None else _checked_dsm(dsm_HW, most_px)
    if gsd_m is not None and not (isfinite(gsd_m) and gsd_m > 0):
        raise DataError(f"gsd_m is {gsd_m}; give the ground size of a pixel in metres, above 0")
    if image is not None and dsm is not None and image.shape[:2] != dsm.shape:
        raise DataError(
            f"the image is {_size(image)} px and the DSM {_size(dsm)} px (width x height); give both in the same size"
        )
    if dsm is not None and np.isnan(dsm).all():
        dsm = None
    _require_sensor(image, dsm, facts)
    return _mapped(predictor, config, array_scene(image, dsm, facts, gsd_m), allow)


def predict_files(
    predictor: Predictor,
    config: PredictConfig,
    image: str | None,
    dsm: str | None,
    *,
    allow: Collection[str] = (),
) -> ArrayMap:
    """Classify files with an open model, in the grid of the image, or of the DSM if there is no image.

    Args:
        predictor: the network.
        config: as with `predict_arrays`.
        image: path or URL; None: no image.
        dsm: path or URL; None: no DSM.
        allow: as with `predict_arrays`.

    Raises:
        DataError: a file cannot be used, or the model was not trained for such pixels or heights.
        ParamsError: `allow` has an unknown code.
        TemporaryError: a server does not answer.
        NonFiniteError: the network gives logits that are NaN or infinite.
    """
    images, dsms = (() if name is None else (name,) for name in (image, dsm))
    image_info, dsm_info = trained_layers(predictor.facts)
    with ExitStack() as stack:
        scene = open_scene(SceneFiles(images, dsms, image_info, dsm_info, None), stack)
        return _mapped(predictor, config, scene, allow)


def _mapped(predictor: Predictor, config: PredictConfig, scene: Scene, allow: Collection[str]) -> ArrayMap:
    if unknown := sorted(set(allow) - CHECKS.keys()):
        raise ParamsError(f"allow names {unknown[0]!r}: no check has this name; expected some of {', '.join(CHECKS)}")
    inputs = Inputs(scene, predictor.facts)
    for objection in objections(scene, inputs.probe, predictor.facts):
        if objection.code not in allow:
            raise DataError(f"{objection.sentence}; to predict anyway, allow {objection.code}")
    shape = inputs.height_px, inputs.width_px
    lattice = Lattice.over(shape, predictor.window_px, config.overlap, config.batch_size)
    names = layer_names({"confidence", "sensors", *(("gates",) if predictor.has_gates else ())})
    layers = {name: np.empty(shape, np.uint8) for name in names}
    meter = Meter(shape[0] * shape[1])
    for band in blended(inputs, predictor, lattice, slice(0, shape[0]), slice(0, shape[1]), meter):
        for name, pixels in layers_of(band, names).items():
            layers[name][band.rows] = pixels[0]
    return ArrayMap(layers["classes"], layers["confidence"], layers["sensors"], layers.get("gates"))


def _checked_image(image_HWC: npt.NDArray[Any], facts: ModelFacts, most_px: int | None) -> Bytes:
    if image_HWC.dtype != np.uint8:
        raise DataError(f"the image has values of type {image_HWC.dtype}; give uint8 values, 0 to 255")
    bands = len(facts.bands)
    if image_HWC.ndim != 3 or image_HWC.shape[2] != bands:
        raise DataError(
            f"the image has the shape {list(image_HWC.shape)}; expected [height, width, {bands}] with the bands "
            f"{', '.join(facts.bands)}"
        )
    _require_size("image", image_HWC.shape[0], image_HWC.shape[1], most_px)
    return image_HWC


def _checked_dsm(dsm_HW: npt.NDArray[Any], most_px: int | None) -> npt.NDArray[np.float32]:
    if dsm_HW.dtype.kind not in "fiu":
        raise DataError(f"the DSM has values of type {dsm_HW.dtype}; give heights in metres as float32")
    if dsm_HW.ndim != 2:
        raise DataError(f"the DSM has the shape {list(dsm_HW.shape)}; expected [height, width]")
    _require_size("DSM", dsm_HW.shape[0], dsm_HW.shape[1], most_px)
    with np.errstate(over="ignore"):
        metres_HW = dsm_HW.astype(np.float32, copy=False)
    if np.isinf(metres_HW).any():
        raise DataError("the DSM has infinite heights; use NaN where nothing was measured")
    return metres_HW


def _require_size(name: str, height_px: int, width_px: int, most_px: int | None) -> None:
    size, count = f"{width_px} x {height_px} px", height_px * width_px
    if count == 0:
        raise DataError(f"the {name} is empty, {size}; give at least one pixel")
    if most_px is not None and count > most_px:
        raise DataError(
            f"the {name} is {size}, {count / 1e6:.3g} megapixels, and the limit is {most_px / 1e6:.3g}; send smaller "
            "parts, or use mobanet predict"
        )


def _require_sensor(image: Bytes | None, dsm: npt.NDArray[np.float32] | None, facts: ModelFacts) -> None:
    given = {"rgb": image is not None, "dsm": dsm is not None}
    if not any(given.values()):
        raise DataError("there is neither an image nor a DSM with a measured height; give at least one of them")
    if not any(given[modality] for modality in facts.network.modalities):
        wanted = {"rgb": "an image", "dsm": "a DSM"}[facts.network.modalities[0]]
        raise DataError(f"this model classifies {wanted} only; give {wanted}, or use another model")


def _size(pixels: npt.NDArray[Any]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
