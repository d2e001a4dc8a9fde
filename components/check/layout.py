"""Whether a file has the bands and the type of pixels that its kind must have; asked before its pixels are read."""

from __future__ import annotations

from collections.abc import Iterator

from components.check.facts import FileFacts, Trouble
from components.common.data.datasets import Dataset, FileKind
from components.common.data.labels import legend_of

IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Pixel types of images of own data; benchmarks have 8 bits."""


def bands_of(dataset: Dataset, kind: FileKind) -> int:
    """How many bands a file of a kind has."""
    return {"image": len(dataset.image.bands), "dsm": 1}.get(kind, legend_of(dataset).bands)


def dtypes_of(dataset: Dataset, kind: FileKind, own: bool) -> tuple[str, ...]:
    """Pixel types that preprocess takes; more in own data than in a benchmark, where another type is another file."""
    if kind == "image":
        return IMAGE_DTYPES if own else ("uint8",)
    if kind == "dsm":
        whole = ("int16", "uint16", "int32") if own else ()
        return ("float32", "float64", *whole, *(("uint8",) if dataset.dsm.relative_to == "ground" else ()))
    return legend_of(dataset).dtypes


def odd_layout(dataset: Dataset, kind: FileKind, facts: FileFacts, own: bool) -> Iterator[Trouble]:
    """What is wrong with the layout of a file."""
    bands = bands_of(dataset, kind)
    alpha = own and kind != "dsm" and facts.bands == bands + 1 and facts.colours[-1] == "alpha"
    if facts.bands != bands and not alpha:
        count = f"{facts.bands} band{'s' * (facts.bands != 1)}"
        yield Trouble("band-count", f"has {count}, expected {bands}: another kind of file, or another variant?")
    known = dtypes_of(dataset, kind, own)
    if odd := set(facts.dtype.split()) - set(known):
        sentence = f"its pixels are {sorted(odd)[0]}, expected {' or '.join(known)}; convert the file"
        yield Trouble("pixel-type", sentence)
