"""Mutators of how a user's rasters lie, what they hold, and what dataset.yaml says of it; see `rasters`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import rasterio
from numpy.random import Generator
from rasterio import Affine

from tests.e2e.own_data import OwnData
from tests.mutations import rasters
from tests.mutations.rasters import SENTINELS, block, fits, keys_of, one_file, rewritten


def _moved(path, change: Callable[[Affine], Affine], pixels=lambda pixels: pixels) -> None:
    with rasterio.open(path) as file:
        rewritten(path, pixels, transform=change(file.transform))


def turned(rng: Generator, data: OwnData) -> None:
    path = one_file(rng, data)
    with rasterio.open(path) as file:
        height, width = file.shape
    south_up = Affine.translation(0, height) @ Affine.scale(1, -1)
    mirrored = Affine.translation(width, 0) @ Affine.scale(-1, 1)
    ways = (
        lambda: _moved(path, lambda t: t @ south_up, lambda pixels: pixels[:, ::-1]),
        lambda: _moved(path, lambda t: t @ mirrored, lambda pixels: pixels[:, :, ::-1]),
        lambda: _moved(path, lambda t: t @ Affine(0, 1, 0, 1, 0, 0), lambda pixels: pixels.transpose(0, 2, 1)),
        lambda: _moved(path, lambda t: t @ Affine.rotation(float(rng.uniform(1, 40)))),
        lambda: _moved(path, lambda t: t @ south_up),
    )
    ways[int(rng.integers(len(ways)))]()


def shifted(rng: Generator, data: OwnData) -> None:
    px = float(rng.choice([0.02, 0.08, 0.12, 0.5, 1, 3, 20, 500])) * rng.choice([-1, 1], 2)
    _moved(one_file(rng, data), lambda t: t @ Affine.translation(*px))


def cropped(rng: Generator, data: OwnData) -> None:
    top, left, bottom, right = (int(n) for n in rng.choice([0, 0, 1, 5, 8, 9, 40], 4))
    place = (lambda t: t @ Affine.translation(left, top)) if rng.random() < 0.7 else (lambda t: t)
    _moved(one_file(rng, data), place, lambda pixels: pixels[:, top : -bottom or None, left : -right or None])


def padded(rng: Generator, data: OwnData) -> None:
    px = int(rng.choice([1, 8, 20]))
    place = (lambda t: t @ Affine.translation(-px, -px)) if rng.random() < 0.7 else (lambda t: t)
    around = ((0, 0), (px, px), (px, px))
    _moved(one_file(rng, data), place, lambda pixels: np.pad(pixels, around, mode="edge"))


def resolution(rng: Generator, data: OwnData) -> None:
    every = int(rng.choice([2, 4]))
    if rng.random() < 0.5:
        _moved(one_file(rng, data), lambda t: t @ Affine.scale(every), lambda pixels: pixels[:, ::every, ::every])
    else:
        _moved(
            one_file(rng, data), lambda t: t @ Affine.scale(1 / every), lambda p: p.repeat(every, 1).repeat(every, 2)
        )


def sentinel(rng: Generator, data: OwnData) -> None:
    share = float(rng.choice([0.02, 0.1, 0.3, 0.97, 1.0]))

    def put(pixels_BHW: np.ndarray) -> np.ndarray:
        values = [value for value in SENTINELS if fits(value, pixels_BHW.dtype)]
        pixels_BHW[:, *block(rng, pixels_BHW, share)] = values[int(rng.integers(len(values)))]
        return pixels_BHW

    rewritten(one_file(rng, data, "dsm", "dsm", "image"), put)


def outliers(rng: Generator, data: OwnData) -> None:
    def put(pixels_BHW: np.ndarray) -> np.ndarray:
        spots = tuple(rng.integers(0, side, 6) for side in pixels_BHW.shape[1:])
        limit = 3e4 if pixels_BHW.dtype.kind == "f" else np.iinfo(pixels_BHW.dtype).max
        pixels_BHW[:, *spots] = rng.uniform(0, limit, 6).astype(pixels_BHW.dtype)
        return pixels_BHW

    rewritten(one_file(rng, data, "dsm"), put)


def bands(rng: Generator, data: OwnData) -> None:
    ways = (
        lambda pixels: pixels[::-1],
        lambda pixels: np.concatenate([pixels, pixels[:1]]),
        lambda pixels: pixels[:1],
        lambda pixels: np.concatenate([pixels, pixels]),
    )
    rewritten(one_file(rng, data), ways[int(rng.integers(len(ways)))])


def label_values(rng: Generator, data: OwnData) -> None:
    value, share = int(rng.choice([0, 1, 3, 99, 254, 255])), float(rng.choice([0.005, 0.02, 0.2, 1.0]))

    def put(pixels_BHW: np.ndarray) -> np.ndarray:
        pixels_BHW[:, *block(rng, pixels_BHW, share)] = value
        return pixels_BHW

    rewritten(one_file(rng, data, "label"), put)


def near_colours(rng: Generator, data: OwnData) -> None:
    """Colours a little off, as lossy compression leaves them."""

    def put(pixels_BHW: np.ndarray) -> np.ndarray:
        noise = rng.integers(-20, 21, pixels_BHW.shape) * (rng.random(pixels_BHW.shape) < 0.05)
        return (np.nan_to_num(pixels_BHW).astype(int) + noise).clip(0, 255).astype(pixels_BHW.dtype)

    rewritten(one_file(rng, data, "label"), put)


def image_keys(rng: Generator, data: OwnData) -> None:
    ways = (
        {"range": [0, 100]},
        {"range": [50, 4000]},
        {"nodata": [int(rng.choice([0, 120, 255]))]},
        {"nodata": []},
        {"scale": 0.5, "offset": 10},
        {"bands": {"red": 3, "green": 1, "blue": 2}},
        {"bands": {"red": 1, "green": 2, "blue": 9}},
    )
    keys_of(data, "image").update(ways[int(rng.integers(len(ways)))])


def dsm_keys(rng: Generator, data: OwnData) -> None:
    ways = (
        {"unit_m": float(rng.choice([0.01, 0.3048, 1, 10]))},
        {"unit_m": None},
        {"relative_to": str(rng.choice(["ground", "datum"]))},
        {"nodata": [float(rng.choice([0, -9999, 260, -1.5]))]},
        {"nodata": []},
        {"bands": [int(rng.choice([1, 2]))]},
        {"scale": 0.01, "offset": 200},
    )
    keys_of(data, "dsm").update(ways[int(rng.integers(len(ways)))])


def label_keys(rng: Generator, data: OwnData) -> None:
    ways = (
        {"nodata": [int(rng.choice([0, 7, 255]))]},
        {"nodata": []},
        {"ignore": [int(rng.choice([0, 3, 99]))]},
        {"ignore": [[128, 0, 128]]},
        {"bands": [1]},
        {"bands": [3, 2, 1]},
    )
    keys_of(data, "label").update(ways[int(rng.integers(len(ways)))])


def other_keys(rng: Generator, data: OwnData) -> None:
    ways = (
        {"gsd_m": float(rng.choice([0.2, 0.26, 0.5, 1]))},
        {"crs": str(rng.choice(["EPSG:25832", "EPSG:25833", "EPSG:3857"]))},
        {"labels": "colours"},
        {"classes": data.facts["classes"][:2]},
    )
    data.facts.update(ways[int(rng.integers(len(ways)))])


def settings(rng: Generator, data: OwnData) -> None:
    ours = data.params.setdefault("preprocess", {})
    ours["max_pad_px"] = int(rng.choice([0, 2, 50]))
    ours["max_unknown_share"] = float(rng.choice([0, 0.001, 0.05, 1]))
    if rng.random() < 0.5:
        ours["heights"] = {"method": str(rng.choice(["above-ground", "training-range", "per-tile"]))}


def accepted(rng: Generator, data: OwnData) -> None:
    code = str(rng.choice(["dsm-missing", "dsm-blank", "dsm-constant", "gsd-differs", "low-coverage", "crs-missing"]))
    data.params["check"] = {"accept": {code: "all" if rng.random() < 0.5 else list(data.split["train"])}}


MUTATORS = (
    rasters.nodata_tag,
    rasters.scale_and_offset,
    rasters.unit_tag,
    rasters.reference_system,
    rasters.system_without_code,
    rasters.control_points,
    rasters.world_file,
    rasters.mask,
    rasters.alpha_band,
    rasters.palette,
    rasters.pixel_type,
    rasters.encoding,
    rasters.other_format,
    rasters.virtual,
    turned,
    shifted,
    cropped,
    padded,
    resolution,
    sentinel,
    outliers,
    bands,
    label_values,
    near_colours,
    image_keys,
    dsm_keys,
    label_keys,
    other_keys,
    settings,
)
"""All of them; `accepted` comes on top, in some cases."""


def mutate(rng: Generator, data: OwnData) -> list[str]:
    """One to three mutations; their names, for the message of a failed test."""
    chosen = [MUTATORS[int(number)] for number in rng.integers(0, len(MUTATORS), int(rng.choice([1, 1, 2, 3])))]
    chosen += [accepted] if rng.random() < 0.15 else []
    for mutator in chosen:
        mutator(rng, data)
    return [mutator.__name__ for mutator in chosen]
