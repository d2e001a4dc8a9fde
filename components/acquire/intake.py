"""Files of a source, one at a time, to their places below a folder: whole, georeferenced, no worse than before.

A file is written under a hidden name, read to its last pixel, given the georeference that it lacks, compared with the
one at its place if there is one, and renamed over it. What became of it goes into the journal; a killed run leaves
drafts under hidden names, which the next one removes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from components.acquire.archives import Damaged, Found, content
from components.acquire.georeference import World, lack_of, supply
from components.acquire.journal import JOURNAL, Entry, Journal, Key
from components.acquire.look import Look, look
from components.common.data.names import Place, hinted
from components.common.data.rawtree import RECORD
from components.common.errors import DataError
from components.common.files import digest
from components.common.progress import track

log = logging.getLogger(__name__)

LABEL_SHARE, IMAGE_SHARE = 0.9, 0.5
"""Of the bright pixels of a picture: from so many in colours of labels it is a label, up to so many an image."""

DRAFTS = ".*.part"
REFLINK = 0x40049409  # Linux: share the blocks of a file until one of the two is changed


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may come to one of some places."""

    found: Found
    places: tuple[Place, ...]  # more than one: kinds share names, the pixels decide
    world: World | None = None  # its world file
    crs: str | None = None  # where it has none
    raster: bool = True  # False: a file that goes with a raster, which is not looked through

    @property
    def key(self) -> Key:
        """As of a journal's entry."""
        world = f"{self.world.found.name} {self.world.found.stamp}" if self.world else ""
        return self.found.name, f"{self.found.size} bytes, {self.found.stamp}", f"{world} {self.crs or ''}".strip()


class Intake:
    """Brings the candidates of one listing."""

    def __init__(self, journal: Journal, candidates: Sequence[Candidate], *, exact: bool) -> None:
        """Prepare.

        Args:
            journal: of the folder, open.
            candidates: in the order in which they are read best.
            exact: whether the folder is to hold the candidates alone: what came from elsewhere is not worth keeping.
        """
        self._journal, self._exact = journal, exact
        self.folder = journal.folder
        self._candidates: dict[Key, Candidate] = {}
        for candidate in candidates:
            self._candidates.setdefault(candidate.key, candidate)  # a source may be named twice

    def bring(self) -> None:
        """Bring them all; what cannot be read is left out and logged. A `dataset.json` goes before anything changes.

        Raises:
            DataError: the disk is too small for them.
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

    def sweep(self) -> None:
        """Where the folder is to hold the candidates alone: remove all other files, and folders that are left empty."""
        if not self._exact:
            return
        kept = {self.folder / e.place for e in self._journal.taken.values() if e.key in self._candidates}
        clear(self.folder, kept)

    def holder(self, place: str) -> Entry | None:
        """The journal's entry of the file at a place; None also where it is none of those that the folder may hold."""
        entry = self._journal.holds(place)
        return None if entry and self._exact and entry.key not in self._candidates else entry

    def _check_room(self, todo: Sequence[Candidate]) -> None:
        needed = sum(candidate.found.size for candidate in todo if candidate.found.path is None)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"{self.folder}: the files take {needed / 1e9:.1f} GB unpacked, {free / 1e9:.1f} GB are free; "
                "make room or name a folder on another disk"
            )

    def _bring(self, candidate: Candidate) -> None:
        found, first = candidate.found, candidate.places[0]
        with self._draft(found) as draft:
            seen = Look(0, False, float("nan"))
            if candidate.raster:
                suffix = PurePosixPath(first.path).suffix
                seen = self._completed(candidate, draft, look(draft, suffix, found.name), suffix)
            place = first if len(candidate.places) == 1 else _told_apart(candidate, seen)
            if self._is_better(candidate, seen, place.path):
                self._put(candidate, seen, draft, place.path)
            else:
                self._journal.add(Entry(place.path, *candidate.key, left=True))

    @contextmanager
    def _draft(self, found: Found) -> Iterator[Path]:
        """The file under a hidden name; a file of a folder is linked if that is possible."""
        draft = self.folder / f".{os.getpid()}.part"
        try:
            if found.path is None:
                with draft.open("wb") as file:
                    file.writelines(content(found))
            else:
                link_or_copy(found.path, draft)
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _completed(self, candidate: Candidate, draft: Path, seen: Look, suffix: str) -> Look:
        """Give a TIFF the georeference that it lacks; a link to the user's own file becomes a copy first."""
        if suffix.lower() not in (".tif", ".tiff"):
            return seen
        lack = lack_of(draft, candidate.world.transform if candidate.world else None, candidate.crs)
        if not lack:
            return seen
        if candidate.found.path is not None:
            draft.unlink()
            copy(candidate.found.path, draft)
        supply(draft, lack, candidate.found.name)
        return replace(seen, placed=True)

    def _is_better(self, candidate: Candidate, seen: Look, place: str) -> bool:
        """Whether it is to lie at the place; says so if there was another one."""
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
        if candidate.found.name == place and candidate.world:
            log.info("%s: gets the georeference of %s", place, candidate.world.found.name)
            return better
        winner, loser = (candidate.found.name, origin) if better else (origin, candidate.found.name)
        reason = _reason(*(sorted((seen, held), key=lambda one: one.rank, reverse=True)))
        log.info("%s: %s is kept, not %s (%s)", place, winner, loser, reason)
        return better

    def _put(self, candidate: Candidate, seen: Look, draft: Path, place: str) -> None:
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        checksum, status = digest(draft), draft.stat()
        os.replace(draft, target)
        entry = Entry(
            place, *candidate.key, left=False, measured_px=seen.measured_px, placed=seen.placed,
            size=status.st_size, changed_ns=status.st_mtime_ns, sha256=checksum,
        )  # fmt: skip
        self._journal.add(entry)


def clear(folder: Path, kept: Collection[Path] = ()) -> None:
    """Remove all files below a folder but some and its journal, and folders that are left empty."""
    (folder / RECORD).unlink(missing_ok=True)  # first: it would speak of files that are gone
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif path not in kept and path != folder / JOURNAL:
            path.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file where the file system allows it, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """A copy that shares its blocks with the source where the file system allows it."""
    with source.open("rb") as given, target.open("wb") as file:
        try:
            fcntl.ioctl(file, REFLINK, given.fileno())
        except OSError:
            shutil.copyfileobj(given, file, 1 << 22)


def _told_apart(candidate: Candidate, seen: Look) -> Place:
    """The place of a picture whose name may be that of an image or of a label."""
    name, words = candidate.found.name, hinted(candidate.found.name)
    label = True if seen.label_share >= LABEL_SHARE else False if seen.label_share <= IMAGE_SHARE else None
    if label is None:
        label = words
    if label is None:
        raise Damaged(
            f"{name}: may be an image or a label, and neither its folders nor its pixels say which; "
            "put images below a folder named image and labels below one named label"
        )
    kind = "label" if label else "image"
    if words is not None and words is not label:
        log.warning("%s: by its folders no %s, but by its pixels, so it is taken as the %s", name, kind, kind)
    return next(place for place in candidate.places if (place.kind in ("label", "eroded")) is label)


def _reason(best: Look, other: Look) -> str:
    if other.measured_px < 0:
        return "the other cannot be read"
    if best.measured_px != other.measured_px:
        return f"{best.measured_px:,} measured pixels against {other.measured_px:,}"
    return "only this one has a georeference" if best.placed != other.placed else "as good as each other"
