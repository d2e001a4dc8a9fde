"""Whether a model can give sensible classes for a scene: bands, ground size, values, heights, overlap of the sensors.

Each doubt is an objection with a code. A prediction stops at an objection unless the user allows its code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from components.common.errors import DataError, ParamsError
from components.common.inference.modelfile import ModelFacts
from components.common.rasterfiles.grids import covered_share
from components.common.rasterfiles.rasters import RasterFile
from components.common.readers.footprints import pixel_size_m
from components.common.readers.images import ImageLayer
from components.common.readers.scene import Scene
from components.predict.inputs.scene_probe import Probe

log = logging.getLogger(__name__)

MOST_TIMES = 2.0
"""The ground size of a pixel may differ from that of the training images by this factor."""

LEAST_SHARE = 1 / 250
"""An image whose values reach less of the trained range is not dark: its values have another scale."""

MOST_GROUND_M = 10.0
"""Heights above the ground start at about 0 m; a higher lowest height belongs to absolute heights."""

LEAST_COVERED = 0.05
"""A DSM that covers a smaller share of the image may lie between the probed blocks."""

BAND_NAMES = {
    **dict.fromkeys(("r", "red"), "red"),
    **dict.fromkeys(("g", "green"), "green"),
    **dict.fromkeys(("b", "blue"), "blue"),
    **dict.fromkeys(("n", "ir", "nir", "infrared", "near infrared", "near-infrared", "near_infrared"), "nir"),
}
"""Names of bands in models and files, lower case -> one name for each."""

COLOURS = {"red", "green", "blue"}


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a model should not be used for a scene."""

    code: str  # what --allow takes
    sentence: str  # what is wrong, where, and what to do


def objections(scene: Scene, probe: Probe, facts: ModelFacts) -> list[Objection]:
    """What speaks against a prediction, the most basic doubt first."""
    return [
        Objection(code, sentence)
        for code, check in CHECKS.items()
        if (sentence := check(scene, probe, facts)) is not None
    ]


def require(found: Sequence[Objection], allow: Collection[str]) -> None:
    """Stop at the first objection that is not allowed; the others are logged.

    Raises:
        ParamsError: `allow` has an unknown code.
        DataError: there is an objection.
    """
    if unknown := sorted(set(allow) - CHECKS.keys()):
        raise ParamsError(f"--allow {unknown[0]}: no check has this name; expected some of {', '.join(CHECKS)}")
    for objection in found:
        if objection.code not in allow:
            raise DataError(f"{objection.sentence}; to predict anyway, add --allow {objection.code}")
        log.warning("%s (allowed: %s)", objection.sentence, objection.code)


def _sensor(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    if facts.network.modalities == ("rgb",) and scene.image is None:
        return "this model classifies images and the scene has none: name one with --image, or use another model"
    if facts.network.modalities == ("dsm",) and scene.dsm is None:
        return "this model classifies heights and the scene has none: name a DSM with --dsm, or use another model"
    return None


def _bands(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    """Whether the names of the file's bands contradict the order of the model's."""
    if scene.image is None or scene.image.layer.bands.palette is not None:
        return None
    wanted = [_band(name) for name in facts.bands]
    named = _names(scene.image, set(wanted) <= COLOURS)
    picked = [named[number - 1] for number in scene.image.layer.bands.numbers]
    if all(None in pair or pair[0] == pair[1] for pair in zip(wanted, picked, strict=True)):
        return None
    shown = ", ".join(name or "unnamed" for name in picked)
    remedy = "pick the bands with --bands"
    if all(name in named for name in wanted):
        remedy = f"add --bands {','.join(str(named.index(name) + 1) for name in wanted)}"
    return f"{scene.image.layer.file.path}: its bands are {shown}, the model's {', '.join(facts.bands)}: {remedy}"


def _alpha(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    """Whether the alpha band is no mask: GDAL marks a fourth band as alpha, also if it is near infrared."""
    file = None if scene.image is None else scene.image.layer.file
    if not isinstance(file, RasterFile) or not file.transparent_px:
        return None
    partly_px = file.alpha_px - file.transparent_px - file.opaque_px
    if partly_px <= (file.alpha_px - file.transparent_px) / 2:
        return None
    return (
        f"{file.path}: its alpha band {file.header.alpha} hides pixels and is partly transparent elsewhere, as near "
        "infrared would be: write the bands of the model alone with gdal_translate -b"
    )


def _names(image: ImageLayer, colours: bool) -> list[str | None]:
    """What a file calls its bands. A TIFF calls any three bands red, green and blue, so `colours` may not count."""
    header = image.layer.file.header
    stated = [BAND_NAMES.get(name) if colours else None for name in header.colours]
    return [
        BAND_NAMES.get(text.strip().lower(), other) for text, other in zip(header.descriptions, stated, strict=True)
    ]


def _band(name: str) -> str | None:
    return BAND_NAMES.get(name.strip().lower())


def _ground_size(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    size = pixel_size_m(scene.grid)
    if size is None:
        log.warning("the scene has no position, so the ground size of its pixels was not checked")
        return None
    size_m = sqrt(size[0] * size[1])
    if 1 / MOST_TIMES <= size_m / facts.gsd_m <= MOST_TIMES:
        return None
    return (
        f"a pixel is {size_m:.3g} m wide on the ground, the model was trained with {facts.gsd_m:.3g} m: resample the "
        f"scene to about {facts.gsd_m:.3g} m with gdalwarp -tr"
    )


def _values(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    if scene.image is None or not probe.image_values:
        return None
    low, high = facts.image_range
    span = high - low
    lowest, highest = min(pair[0] for pair in probe.image_values), max(pair[1] for pair in probe.image_values)
    fits = low - span <= lowest and highest <= high + span
    small = lowest < highest <= low + LEAST_SHARE * span or _most(scene.image) < low + span / 4
    if fits and not small:
        return None
    return (
        f"{scene.image.layer.file.path}: its values are {lowest:g} to {highest:g}, the model was trained with "
        f"{low:g} to {high:g}: convert it with gdal_translate -scale"
    )


def _most(image: ImageLayer) -> float:
    """The highest value that the pixel type of an image can hold."""
    dtype = np.dtype(image.layer.file.header.dtypes[image.layer.bands.numbers[0] - 1])
    if dtype.kind not in "iu" or image.layer.bands.palette is not None:
        return float("inf")
    most = float(np.iinfo(dtype).max)
    return max(most * scale + offset for scale, offset in zip(image.scales, image.offsets, strict=True))


def _heights(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    if scene.dsm is None or probe.metres is None:
        return None
    low_m, high_m = probe.metres
    given = f"{scene.dsm.layer.file.path}: its heights are {low_m:.4g} to {high_m:.4g} m"
    heights = facts.heights
    if heights.relative_to == "ground" and low_m > MOST_GROUND_M:
        return f"{given}, which are absolute; the model was trained with heights above the ground: use a normalised DSM"
    if heights.method != "training-range" or heights.offset_m is None or heights.scale_m is None:
        return None
    trained = [heights.offset_m + heights.scale_m * limit for limit in heights.clip]
    if low_m <= trained[1] and high_m >= trained[0]:
        return None
    return (
        f"{given}, the model was trained with {trained[0]:.4g} to {trained[1]:.4g} m: use a DSM of the same kind, or a "
        "model whose heights are above ground (preprocess.heights.method)"
    )


def _overlap(scene: Scene, probe: Probe, facts: ModelFacts) -> str | None:
    if scene.image is None or scene.dsm is None or probe.overlap > 0:
        return None
    layer, image = scene.dsm.layer.fit.layer, scene.grid
    known = layer.transform is not None and image.transform is not None
    if known and 0 < covered_share(layer, image) < LEAST_COVERED:
        return None
    return (
        f"{scene.dsm.layer.file.path}: no pixel of the image has a height: use the DSM of this place, correct --crs, "
        "or leave --dsm out"
    )


CHECKS: dict[str, Callable[[Scene, Probe, ModelFacts], str | None]] = {
    "no-sensor": _sensor,
    "bands": _bands,
    "alpha": _alpha,
    "ground-size": _ground_size,
    "value-range": _values,
    "no-overlap": _overlap,
    "heights-range": _heights,
}
"""Checks by their code; each gives a sentence, or None if there is no doubt."""
