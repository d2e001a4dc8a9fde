"""Mutators of a package as downloaded: damaged, empty, and hostile archives."""

from __future__ import annotations

import shutil
import struct
import warnings
import zipfile
from pathlib import Path

from numpy.random import Generator

from tests.isprs_package import write_zip, zipped
from tests.mutations.victim import flipped

ABSOLUTE = "/tmp/mobanet-test-absolute.tif"
"""A member of a hostile archive; nothing may ever be written there."""


def archive_bytes(rng: Generator, good: Path, bad: Path) -> None:
    """Bits, runs and ends of an archive."""
    content, way = good.read_bytes(), int(rng.integers(5))
    cut = int(rng.integers(len(content)))
    bad.write_bytes(
        [
            lambda: content[:cut],
            lambda: content[cut:],
            lambda: flipped(content, rng, 0, len(content), int(rng.integers(1, 30))),
            lambda: flipped(content, rng, len(content) - 400, len(content), int(rng.integers(1, 6))),
            lambda: content[:cut] + rng.bytes(500) + content[cut + 500 :],
        ][way]()
    )


def archive_of_nothing(rng: Generator, good: Path, bad: Path) -> None:
    contents = (
        b"",
        zipped({}),
        b"no zip",
        zipped({"a.zip": b""}),
        zipped({"a.zip": zipped({})}),
        zipped({"readme": b"x"}),
    )
    bad.write_bytes(contents[int(rng.integers(len(contents)))])


def archive_with(rng: Generator, good: Path, bad: Path) -> None:
    """A good archive with one member that must not be trusted."""
    names = (
        "../x.tif",
        ABSOLUTE,
        "a/../../x.tif",
        "..\\x.tif",
        "C:\\x.tif",
        "C:/x.tif",
        "a\x00b.tif",
        "x" * 300,
    )
    shutil.copy(good, bad)
    with warnings.catch_warnings(), zipfile.ZipFile(bad, "a") as archive:
        warnings.simplefilter("ignore")  # a name that is there already
        name = str(rng.choice([*names, archive.namelist()[0]]))
        archive.writestr(name.replace("x.tif", "top_potsdam_2_10_RGB.tif"), rng.bytes(100))


def archive_bomb(rng: Generator, good: Path, bad: Path) -> None:
    """Zeros that pack well, zips inside zips inside zips, a link, a folder named as a picture."""
    name = "top_potsdam_2_10_RGB.tif"
    deep = zipped({name: b"x"})
    for _ in range(int(rng.integers(3, 9))):
        deep = zipped({"a.zip": deep})
    link = zipfile.ZipInfo(name)
    link.external_attr = 0o120777 << 16
    way = int(rng.integers(5))
    if way == 0:
        write_zip(bad, {name: bytes(40_000_000)})
    elif way == 1:
        bad.write_bytes(deep)
    elif way == 2:
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr(link, "/etc/passwd")
    elif way == 3:
        write_zip(bad, {f"{name}/": b"", "readme": b"x"})
    else:
        write_zip(bad, {f"d/{number}.txt": b"" for number in range(3000)})


def archive_fields(rng: Generator, good: Path, bad: Path) -> None:
    """A number in the list of members: flags (encrypted), way of packing, checksum, sizes, place."""
    content = bytearray(good.read_bytes())
    starts = [place for place in range(len(content) - 4) if content[place : place + 4] == b"PK\x01\x02"]
    start = starts[int(rng.integers(len(starts)))]
    offset, form = [(8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (42, "<I")][
        int(rng.integers(7))
    ]
    top = 2 ** (8 * struct.calcsize(form))
    struct.pack_into(form, content, start + offset, int(rng.choice([1, 9, 99, top - 1, int(rng.integers(top))])))
    bad.write_bytes(bytes(content))
