"""Mutators of a file as bytes: cut, bits turned over, another file in its place. They return the kinds they touched."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.random import Generator
from PIL import Image

from tests.mutations.victim import KINDS, Victim, any_kind, flipped


def truncated(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    path = victim.paths[kind]
    path.write_bytes(path.read_bytes()[: int(rng.integers(1, path.stat().st_size))])
    return {kind}


def header_bits(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    path = victim.paths[kind]
    path.write_bytes(flipped(path.read_bytes(), rng, 0, 420, int(rng.integers(1, 5))))
    return set(KINDS) if kind == "image" else {kind}  # where the image lies decides where all lie


def data_bits(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    path = victim.paths[kind]
    path.write_bytes(flipped(path.read_bytes(), rng, 600, path.stat().st_size, int(rng.integers(1, 20))))
    return {kind}


def noise_run(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    path = victim.paths[kind]
    content = bytearray(path.read_bytes())
    start = int(rng.integers(600, len(content) - 1))
    run = content[start : start + int(rng.integers(8, 600))]
    content[start : start + len(run)] = rng.bytes(len(run)) if rng.random() < 0.5 else bytes(len(run))
    path.write_bytes(bytes(content))
    return {kind}


def tail_added(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    with victim.paths[kind].open("ab") as file:
        file.write(rng.bytes(int(rng.integers(1, 5000))))
    return {kind}


def empty(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    victim.paths[kind].write_bytes(b"")
    return {kind}


def text(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    pages = (
        b"hello\n",
        b"<html><h1>404 Not Found</h1></html>\n" * 50,
        b"II*\x00" + b"\x00" * 4,
        b"P6 1 1 255\n\x00\x00\x00",
    )
    victim.paths[kind].write_bytes(pages[int(rng.integers(len(pages)))])
    return {kind}


def other_format(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
        buffer, str(rng.choice(["PNG", "JPEG", "BMP"]))
    )
    victim.paths[kind].write_bytes(buffer.getvalue())
    return {kind}


def tags(rng: Generator, victim: Victim) -> set[str]:
    """A number in the directory of the TIFF: huge, none, or negative."""
    kind = any_kind(rng)
    path = victim.paths[kind]
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    places = {struct.unpack_from("<H", content, p)[0]: p for p in range(start + 2, start + 2 + 12 * count, 12)}
    wanted = [tag for tag in (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 339) if tag in places]
    value = int(rng.choice([0, 1, 7, 65535, 1_000_000, 2**31 - 1, 2**31, 2**32 - 1]))
    tag = int(rng.choice(wanted if rng.random() < 0.5 else wanted[:2]))
    struct.pack_into("<HHII", content, places[tag], tag, 4, 1, value)
    path.write_bytes(bytes(content))
    return {kind}
