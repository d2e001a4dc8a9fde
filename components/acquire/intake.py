"""Brings the files of a source to their places below a folder, one at a time and atomically.

A raster is linked or written under a hidden name, read to its last pixel, compared with an earlier file at its place,
and renamed to it if it is better. Its sidecar files come first, so no raster is ever without them. The journal records
each file. A killed run leaves drafts under hidden names, which the next run removes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from components.acquire.archives import Damaged, Found, content
from components.acquire.journal import JOURNAL, Entry, Journal, Key
from components.acquire.look import Look, look
from components.acquire.world_files import is_world_file
from components.common.data.names import Place, hinted
from components.common.data.rawtree import RECORD
from components.common.errors import DataError
from components.common.files import digest
from components.common.progress import track

log = logging.getLogger(__name__)

LABEL_SHARE, IMAGE_SHARE = 0.9, 0.5
"""Share of bright pixels with a label colour: at least 0.9 makes it a label, at most 0.5 an image."""

DRAFTS = ".*.part"
REFLINK = 0x40049409  # Linux: a copy that shares its blocks until one of the two files changes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of a source for one of some places."""

    found: Found
    places: tuple[Place, ...]  # more than one: image and label share a name, the pixels decide
    sidecars: Mapping[str, Found] = field(default_factory=dict)  # file name next to the place -> file
    content: bytes | None = None  # written instead of the file's own content
    parts_size: int = 0  # bytes of other files that hold its pixels
    raster: bool = True  # False: not read, because another raster contains it

    @property
    def key(self) -> Key:
        """Key of its journal entry."""
        offer = "; ".join(f"{side.name} {side.stamp}" for _, side in sorted(self.sidecars.items()))
        return self.found.name, f"{self.found.size} bytes, {self.found.stamp}", offer


class Intake:
    """Brings the candidates of one listing."""

    def __init__(self, journal: Journal, candidates: Sequence[Candidate], *, exact: bool) -> None:
        """Prepare.

        Args:
            journal: the folder's journal, open.
            candidates: in reading order.
            exact: whether the folder must hold the candidates only, so that files from elsewhere are replaced.
        """
        self._journal, self._exact = journal, exact
        self.folder = journal.folder
        self.problems: list[str] = []  # sentences: what was left out
        self.unreadable: set[str] = set()  # places for which a file was found that cannot be read
        self._candidates: dict[Key, Candidate] = {}
        for candidate in candidates:
            self._candidates.setdefault(candidate.key, candidate)  # a source may be listed twice

    def bring(self) -> None:
        """Bring all candidates; files that cannot be read are left out and logged.

        `dataset.json` is deleted before anything changes.

        Raises:
            DataError: the disk is too small.
        """
        for draft in self.folder.rglob(DRAFTS):
            draft.unlink(missing_ok=True)
        settled = self._journal.left | {entry.key: place for place, entry in self._journal.taken.items()}
        todo = [
            candidate
            for key, candidate in self._candidates.items()
            if key not in settled or self.holder(settled[key]) is None
        ]
        self._check_room(todo)
        if todo:
            (self.folder / RECORD).unlink(missing_ok=True)
        for candidate in track(todo, "importing files"):
            try:
                self._bring(candidate)
            except Damaged as error:
                log.warning("left out: %s", error)
                self.problems.append(str(error))
                self.unreadable |= {place.path for place in candidate.places}

    def sweep(self) -> None:
        """In an exact tree: delete all other files, and folders that become empty."""
        if not self._exact:
            return
        kept = [entry for entry in self._journal.taken.values() if entry.key in self._candidates]
        clear(self.folder, {self.folder / place for entry in kept for place in (entry.place, *entry.sidecars)})

    def holder(self, place: str) -> Entry | None:
        """The journal's entry of the file at a place; None if the folder may not keep that file."""
        entry = self._journal.holds(place)
        return None if entry and self._exact and entry.key not in self._candidates else entry

    def _check_room(self, todo: Sequence[Candidate]) -> None:
        files = [found for candidate in todo for found in (candidate.found, *candidate.sidecars.values())]
        needed = sum(found.size for found in files if found.path is None)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"{self.folder}: the files take {needed / 1e9:.1f} GB unpacked, {free / 1e9:.1f} GB are free; "
                "make room or choose a folder on another disk"
            )

    def _bring(self, candidate: Candidate) -> None:
        with self._draft(candidate.found, candidate.content) as draft:
            seen = self._seen(candidate, draft)
            place = candidate.places[0] if len(candidate.places) == 1 else _told_apart(candidate, seen)
            if self._is_better(candidate, seen, place.path):
                sidecars = [self._put_sidecar(place.path, *sidecar) for sidecar in candidate.sidecars.items()]
                self._put(candidate, seen, draft, place.path, sidecars)
            else:
                self._journal.add(Entry(place.path, *candidate.key, left=True))

    def _seen(self, candidate: Candidate, draft: Path) -> Look:
        """Read a raster; one in a folder is read there, next to its sidecars."""
        if not candidate.raster:
            return Look(0, False, float("nan"))
        found, suffix = candidate.found, PurePosixPath(candidate.places[0].path).suffix
        size = found.size + candidate.parts_size + sum(one.size for one in candidate.sidecars.values())
        seen = look(found.path or draft, suffix, found.name, size)
        return replace(seen, placed=seen.placed or any(map(is_world_file, candidate.sidecars)))

    @contextmanager
    def _draft(self, found: Found, instead: bytes | None = None, kind: str = "raster") -> Iterator[Path]:
        """The file under a hidden name; a file of a folder is linked where possible."""
        draft = self.folder / f".{os.getpid()}.{kind}.part"
        try:
            if instead is not None:
                draft.write_bytes(instead)
            elif found.path is None:
                with draft.open("wb") as file:
                    file.writelines(content(found))
            else:
                link_or_copy(found.path, draft)
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _is_better(self, candidate: Candidate, seen: Look, place: str) -> bool:
        """Whether a candidate replaces the file at its place; logs the choice between two files."""
        entry = self.holder(place)
        if not (self.folder / place).exists() or (self._exact and entry is None):
            return True
        ours = entry is not None and entry.key in self._candidates
        origin = entry.origin if entry else "the file there"
        try:
            held = entry.look if entry else look(self.folder / place, PurePosixPath(place).suffix, place)
        except Damaged:
            held = Look(-1, False, float("nan"))
        better = seen.rank > held.rank or (seen.rank == held.rank and not ours)
        if candidate.found.name == place:
            log.info("%s: gets a world file", place)
            return better
        winner, loser = (candidate.found.name, origin) if better else (origin, candidate.found.name)
        reason = _reason(*(sorted((seen, held), key=lambda one: one.rank, reverse=True)))
        log.info("%s: keeping %s instead of %s (%s)", place, winner, loser, reason)
        return better

    def _put(self, candidate: Candidate, seen: Look, draft: Path, place: str, sidecars: Sequence[str]) -> None:
        """Move a draft to its place, together with its sidecars, which are there already."""
        others = {path for entry in self._journal.taken.values() if entry.place != place for path in entry.sidecars}
        earlier = self._journal.taken.get(place)
        stale = set(earlier.sidecars if earlier else ()).difference(sidecars)
        kept = [path for path in stale if is_world_file(path) and not self._exact]  # a position is worth keeping
        for path in stale.difference(kept, others):
            (self.folder / path).unlink(missing_ok=True)
        entry = Entry(
            place, *candidate.key, left=False, measured_px=seen.measured_px, placed=seen.placed,
            sidecars=(*sidecars, *kept), **self._moved(draft, place),
        )  # fmt: skip
        self._journal.add(entry)

    def _put_sidecar(self, raster: str, name: str, found: Found) -> str:
        """Bring a sidecar file; returns its place."""
        place = str(PurePosixPath(raster).with_name(name))
        with self._draft(found, kind="sidecar") as draft:
            if name.endswith(".msk"):
                look(draft, ".tif", found.name)  # GDAL would open a mask of any format
            stamp = f"{found.size} bytes, {found.stamp}"
            self._journal.add(Entry(place, found.name, stamp, f"of {raster}", left=False, **self._moved(draft, place)))
        return place

    def _moved(self, draft: Path, place: str) -> dict[str, Any]:
        """Rename a draft to its place; returns what the journal records of the file."""
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        checksum, status = digest(draft), draft.stat()
        os.replace(draft, target)
        return {"size": status.st_size, "changed_ns": status.st_mtime_ns, "sha256": checksum}


def clear(folder: Path, kept: Collection[Path] = ()) -> None:
    """Delete all files below a folder except some and its journal, and folders that become empty."""
    (folder / RECORD).unlink(missing_ok=True)  # first: it lists files that will be gone
    for path in sorted(folder.rglob("*"), reverse=True):  # the content of a folder before the folder
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif path not in kept and path != folder / JOURNAL:
            path.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """A copy; it shares its blocks with the source where the file system allows it."""
    with source.open("rb") as given, target.open("wb") as file:
        try:
            fcntl.ioctl(file, REFLINK, given.fileno())
        except OSError:
            shutil.copyfileobj(given, file, 1 << 22)


def _told_apart(candidate: Candidate, seen: Look) -> Place:
    """The place of a raster whose name fits both an image and a label."""
    name, words = candidate.found.name, hinted(candidate.found.name)
    label = True if seen.label_share >= LABEL_SHARE else False if seen.label_share <= IMAGE_SHARE else None
    if label is None:
        label = words
    if label is None:
        raise Damaged(
            f"{name}: can be an image or a label, and neither its folders nor its pixels tell which; "
            "move images into a folder named image and labels into one named label"
        )
    kind = "label" if label else "image"
    if words is not None and words is not label:
        log.warning("%s: its folders do not suggest a %s but its pixels do; used as the %s", name, kind, kind)
    return next(place for place in candidate.places if (place.kind in ("label", "eroded")) is label)


def _reason(best: Look, other: Look) -> str:
    if other.measured_px < 0:
        return "the other cannot be read"
    if best.measured_px != other.measured_px:
        return f"{best.measured_px:,} measured pixels against {other.measured_px:,}"
    return "only this one has a position" if best.placed != other.placed else "equally good"
