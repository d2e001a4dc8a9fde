"""Which packages an environment holds: the installed ones of this process, or all that `requirements.lock` names.

In: the metadata of installed packages, and the lock file. Out: names, versions, licences, requirements, and the
checksums of the files that the lock allows. The same environment gives the same list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from components.common.errors import DataError
from components.common.tracking.provenance import ROOT

LOCK = ROOT / "requirements.lock"
"""Versions that the project is tested with, and checksums of their files; an installed wheel has none."""

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
"""Beginning of an entry of the lock."""

ALLOWED = re.compile(r"--hash=sha256:(?P<sha256>[0-9a-f]{64})")
"""Checksum of one file that an entry allows."""

REQUIRED = re.compile(r"^[A-Za-z0-9._-]+")
"""Name at the beginning of a requirement."""

LONGEST_LICENCE = 200
"""Most characters of a licence's name; some packages have the whole text in this place."""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One version of a package."""

    name: str  # normalised as indexes do: lower case, with hyphens
    version: str
    licence: str | None = None  # SPDX expression or the words of the package; None: not stated, or not installed
    requires: tuple[str, ...] = ()  # normalised names, without those that only an extra needs
    sha256: tuple[str, ...] = ()  # of the files that the lock allows, one of which is the installed one


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def installed_packages(lock: Path = LOCK) -> tuple[Package, ...]:
    """The packages of this process, sorted by name.

    Args:
        lock: file with the checksums of the versions that it names; without it, packages have none.
    """
    sums = {(package.name, package.version): package.sha256 for package in _entries(lock)} if lock.is_file() else {}
    found = {}
    for distribution in distributions():  # the first of a name is the one that is imported
        name = normalised(distribution.metadata["Name"]) if "Name" in distribution.metadata else None
        if name is not None and name not in found:
            found[name] = _package(distribution, sums)
    return tuple(sorted(found.values()))


def locked_packages(lock: Path = LOCK) -> tuple[Package, ...]:
    """All packages that a lock names for any platform, sorted; licences are those of the installed versions.

    Raises:
        DataError: the lock is missing, names no package, or an entry has no checksum.
    """
    if not lock.is_file():
        raise DataError(f"{lock}: no such file; run this in a clone of the project")
    entries = _entries(lock)
    if bare := [entry.name for entry in entries if not entry.sha256]:
        raise DataError(f"{lock}: {bare[0]} has no checksum; run make lock")
    if not entries:
        raise DataError(f"{lock}: names no package; run make lock")
    known = {(package.name, package.version): package for package in installed_packages()}
    found = (replace(known.get((entry.name, entry.version), entry), sha256=entry.sha256) for entry in entries)
    return tuple(sorted(found))


def _entries(lock: Path) -> list[Package]:
    """The entries of a lock: a line with name and version, followed by lines with checksums."""
    sums: dict[tuple[str, str], list[str]] = {}
    current: list[str] = []
    for line in lock.read_text().splitlines():
        if entry := PINNED.match(line):
            current = sums.setdefault((normalised(entry["name"]), entry["version"]), [])
        current += ALLOWED.findall(line)
    return [Package(name, version, sha256=tuple(sorted(set(found)))) for (name, version), found in sums.items()]


def _package(distribution: Distribution, sums: Mapping[tuple[str, str], tuple[str, ...]]) -> Package:
    name, version = normalised(distribution.metadata["Name"]), distribution.version
    needed = [line for line in distribution.requires or () if not re.search(r";.*\bextra\s*==", line)]
    names = {normalised(match[0]) for line in needed if (match := REQUIRED.match(line))}
    return Package(name, version, _licence(distribution), tuple(sorted(names)), sums.get((name, version), ()))


def _licence(distribution: Distribution) -> str | None:
    """The licence as the package states it: an expression, else a short text, else the words of its classifiers."""
    metadata = distribution.metadata
    for key in ("License-Expression", "License"):
        text = metadata[key].strip() if key in metadata else ""
        if text and text != "UNKNOWN" and "\n" not in text and len(text) <= LONGEST_LICENCE:
            return text
    words = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License")]
    return ", ".join(words) or None
