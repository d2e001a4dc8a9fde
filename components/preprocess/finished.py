"""Tiles that an interrupted run has finished; they are used again if nothing that shapes them has changed.

Next to `2_10.arrow` in the draft of the store is `2_10.json` with the tile's entry and a key: a checksum of the
settings and of the size and modification time of the raw files. The finished store holds none of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from components.common.data.store import FORMAT, TileEntry
from components.common.errors import ParamsError
from components.common.files import write_json
from components.common.params import from_mapping
from components.common.tracking.provenance import tool_version
from components.preprocess.convert import TileJob, build_tile


def build_and_note(job: TileJob) -> TileEntry:
    """`build_tile`, and record next to the tile that it is finished."""
    key = key_of(job)  # computed first: a file that changes meanwhile makes the tile invalid
    entry = build_tile(job)
    write_json(_note(job.store, job.tile), {"key": key, "entry": asdict(entry)})
    return entry


def key_of(job: TileJob) -> str:
    """Checksum of all that shapes a tile; size and modification time stand for the content of a raw file."""
    shapes = {
        "dataset": asdict(job.dataset),
        "source": job.raw.source,
        "files": {name: _identity(job.raw.folder / name) for name in job.files.inputs()},
        "heights": asdict(job.heights),
        "settings": [job.tile, job.subset, asdict(job.settings)],
    }
    text = json.dumps([FORMAT, tool_version(), shapes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished(job: TileJob) -> TileEntry | None:
    """Entry of a tile that is finished as this job would make it; None if there is none."""
    try:
        note = json.loads(_note(job.store, job.tile).read_text())
        if note["key"] != key_of(job) or not (job.store / f"{job.tile}.arrow").is_file():
            return None
        return from_mapping(TileEntry, note["entry"], "entry")
    except (OSError, ValueError, KeyError, TypeError, ParamsError):  # no note, or one cut by the interruption
        return None


def keep_only(store: Path, tiles: Iterable[str]) -> None:
    """Remove from a draft whatever does not belong to these finished tiles."""
    kept = {path for tile in tiles for path in (store / f"{tile}.arrow", _note(store, tile))}
    for path in store.iterdir():
        if path not in kept:
            path.unlink()


def remove_notes(store: Path, tiles: Iterable[str]) -> None:
    """Remove what only a draft holds."""
    for tile in tiles:
        _note(store, tile).unlink()


def _note(store: Path, tile: str) -> Path:
    return store / f"{tile}.json"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
