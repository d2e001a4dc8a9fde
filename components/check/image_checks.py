"""Checkers of the images: do they show something, is it an image, and are the bands in order?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

import numpy as np
import numpy.typing as npt

from components.check.config import Subject
from components.check.findings import Finding, finding

BLACK_SHARE = 0.01
"""Less black than this is shadow or a thin edge."""

OUTSIDE_SHARE = 0.01
DARK_SHARE = 0.05
"""An image that uses a smaller part of `image.range` is almost black."""

CORNER_SHARE = 0.95
"""In an image, hardly a pixel has all bands at their ends; in a label picture, all have."""

INFRARED = ("infrared", "nir")
VEGETATION = ("vegetation", "tree", "grass", "forest", "shrub", "crop")
BRIGHTER = 0.1
"""Vegetation is brighter in infrared than in the other bands by more than this share of the range of values."""

LEAST_DIFFERENCE = 0.03
"""Tiles whose classes differ by less than this share of the range of values are not compared."""

MAX_BANDS = 5
"""With more bands, not all orders are tried."""

PHOTO = ("red", "green", "blue")


def contents(subject: Subject) -> Iterator[Finding]:
    """Images of one value, with black regions, or with values that do not fit the range."""
    low, high = subject.dataset.image.range
    for tile, facts in subject.tiles.items():
        image, pixels = facts.image, facts.pixels.get("image")
        if image is None or pixels is None or image.lowest is None or image.highest is None:  # the reader reports it
            continue
        place = facts.places["image"]
        if pixels.constant:
            yield finding("image-constant", f"holds {pixels.lowest:g} everywhere", tile, place)
            continue
        if image.black_share > BLACK_SHARE:
            sentence = f"{_percent(image.black_share)} are black and not marked as missing; they are learned as ground"
            yield finding("image-black", sentence, tile, place)
        values = f"the values are {image.lowest:g} to {image.highest:g}, image.range is {low:g} to {high:g}"
        if image.outside_share > OUTSIDE_SHARE:
            yield finding("image-range", f"{values}: {_percent(image.outside_share)} are cut off", tile, place)
        elif (image.highest - low) < DARK_SHARE * (high - low):
            yield finding("image-range", f"{values}: the whole image is almost black", tile, place)


def labels_in_their_place(subject: Subject) -> Iterator[Finding]:
    """Label pictures where an image should be."""
    for tile, facts in subject.tiles.items():
        pixels = facts.pixels.get("image")
        if facts.image and pixels and not pixels.constant and facts.image.corner_share > CORNER_SHARE:
            sentence = f"{_percent(facts.image.corner_share)} have pure colours, like a label"
            yield finding("image-is-label", sentence, tile, facts.places["image"])


def colour_tags(subject: Subject) -> Iterator[Finding]:
    """Bands that the file itself names in another order; many writers call any three bands red, green, blue."""
    names = subject.dataset.image.bands
    if subject.dataset.image.band_numbers is not None:  # you have picked the bands yourself
        return
    for tile, facts in subject.tiles.items():
        tags = facts.files["image"].colours if "image" in facts.files else ()
        if set(PHOTO) <= set(tags) and set(PHOTO) <= set(names) and tags[:3] != PHOTO:
            odd = [(i, tags[i], name) for i, name in enumerate(names) if tags[i] in PHOTO and tags[i] != name]
            if odd:
                i, tag, name = odd[0]
                sentence = f"the file calls band {i + 1} {tag}, dataset.yaml calls it {name}"
                yield finding("bands-swapped", sentence, tile, facts.places["image"])


def infrared(subject: Subject) -> Iterator[Finding]:
    """Vegetation is bright in infrared alone: if that is another band than dataset.yaml states, bands are swapped."""
    names = subject.dataset.image.bands
    expected = next((i for i, name in enumerate(names) if any(word in name.lower() for word in INFRARED)), None)
    low, high = subject.dataset.image.range
    if len(names) < 3:
        return
    for tile, means_KC in _class_means(subject).items():
        gains_C = _vegetation_gains(subject, means_KC)
        if gains_C is None:
            continue
        brightest = int(gains_C.argmax())
        lead = float(gains_C[brightest] - np.delete(gains_C, brightest).max()) / (high - low)
        usual = expected == brightest or (expected is None and "green" in names[brightest])
        if not usual and lead > BRIGHTER:
            other = "no band is infrared" if expected is None else f"infrared is band {expected + 1}"
            sentence = (
                f"vegetation is much brighter in band {brightest + 1} than in the others, as in infrared, but in "
                f"dataset.yaml that band is {names[brightest]} and {other}"
            )
            yield finding("bands-swapped", sentence, tile, subject.tiles[tile].places["image"])


def odd_order(subject: Subject) -> Iterator[Finding]:
    """A tile whose classes look as in the other tiles if its bands are reordered."""
    names = subject.dataset.image.bands
    low, high = subject.dataset.image.range
    means = _class_means(subject)
    if len(means) < 4 or not 2 <= len(names) <= MAX_BANDS:
        return
    usual_KC = _median(np.stack(list(means.values())))
    for tile, means_KC in means.items():
        away = {order: _distance(means_KC[:, order], usual_KC) for order in permutations(range(len(names)))}
        best = min(away, key=lambda order: away[order])
        as_is = away[tuple(range(len(names)))]
        if as_is > LEAST_DIFFERENCE * (high - low) and away[best] < as_is / 2:
            order = ", ".join(names[int(np.argsort(best)[i])] for i in range(len(names)))
            sentence = f"its classes look as in the other tiles if its bands are {order}, not {', '.join(names)}"
            yield finding("bands-swapped", sentence, tile, subject.tiles[tile].places["image"])


def _class_means(subject: Subject) -> Mapping[str, npt.NDArray[np.float64]]:
    """Mean of each band per class, `[K, C]`, NaN for a class without a pixel; of tiles that have them."""
    bands = len(subject.dataset.image.bands)
    return {
        tile: np.array([means or [np.nan] * bands for means in facts.image.class_means])
        for tile, facts in subject.tiles.items()
        if facts.image is not None and any(facts.image.class_means)
    }


def _vegetation_gains(subject: Subject, means_KC: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """How much brighter vegetation is than the rest, per band; None if a tile lacks one of the two."""
    green_K = np.array([any(word in c.name.lower() for word in VEGETATION) for c in subject.dataset.classes])
    there_K = np.isfinite(means_KC).all(1)
    if not (green_K & there_K).any() or not (~green_K & there_K).any():
        return None
    return np.asarray(means_KC[green_K & there_K].mean(0) - means_KC[~green_K & there_K].mean(0))


def _median(means_NKC: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median over the tiles; NaN for a class that no tile has."""
    there = np.isfinite(means_NKC).any(0)
    return np.where(there, np.nanmedian(np.where(there, means_NKC, 0), axis=0), np.nan)


def _distance(one_KC: npt.NDArray[np.float64], other_KC: npt.NDArray[np.float64]) -> float:
    difference = np.abs(one_KC - other_KC)
    there = np.isfinite(difference)
    return float(difference[there].mean()) if there.any() else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.3g} % of the pixels"
