"""Downloads remote files to a folder next to the raw tiles: an S3 prefix, or a path in a DVC repository at a revision.

The folder's name is a hash of the remote listing (paths, checksums). An interrupted download therefore resumes, and a
source that has changed is downloaded again. The folder is deleted when the raw tiles are complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from components.common.data.config import S3, DataConfig
from components.common.errors import DataError
from components.common.files import digest, replacing
from components.common.progress import track

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the source."""

    path: str  # on its file system
    place: str  # below the folder
    version: str  # changes with the content: md5 in a DVC repository, ETag in S3
    md5: str | None  # known in a DVC repository


@contextmanager
def on_this_machine(data: DataConfig, folder: Path) -> Iterator[Path]:
    """Path of the source, or of a copy if the source is remote; if the block fails, the copy stays for the next try.

    Args:
        data: section `data`; the source is not the sample.
        folder: receives the copy.

    Raises:
        DataError: the source cannot be read, or holds no file.
    """
    path = str(data.path)
    if data.repo is None and not path.startswith(S3):
        yield Path(path).expanduser()
        return
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException

    name = path if data.repo is None else f"{path} of {data.repo} at {data.rev or 'its newest revision'}"
    try:
        copy = _download(*_opened(data), folder, name)
    except (OSError, BotoCoreError, ClientError, DvcException) as error:
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise DataError(f"{name}: cannot be read ({reason[:300]}); check data.path, data.repo and data.rev") from None
    yield copy
    shutil.rmtree(folder)


def _opened(data: DataConfig) -> tuple[AbstractFileSystem, str]:
    """The file system, and the source's path on it."""
    if data.repo is None:
        import fsspec

        system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        return system, str(data.path).removeprefix(S3).rstrip("/")
    from dvc.api import DVCFileSystem

    found = DVCFileSystem(url=data.repo, rev=data.rev)
    log.info("%s: revision %s", data.repo, found.repo.get_rev())
    return found, str(data.path).rstrip("/")


def _download(system: AbstractFileSystem, root: str, folder: Path, name: str) -> Path:
    """Download the missing files; returns the folder, or the file if the source is a single file."""
    files = _listed(system, root)
    if not files:
        raise DataError(f"{name}: no such folder or file; check data.path, data.repo and data.rev")
    contents = json.dumps([(file.place, file.version) for file in files])
    copy = folder / hashlib.sha256(contents.encode()).hexdigest()[:16]
    for stale in folder.glob("*"):
        if stale != copy:
            shutil.rmtree(stale)
    missing = [file for file in files if not (copy / file.place).exists()]
    for file in track(missing, "download", len(missing)):
        with replacing(copy / file.place) as draft:
            system.get_file(file.path, str(draft))
            if file.md5 is not None and digest(draft, "md5") != file.md5:
                raise DataError(f"{name}: {file.place} was damaged in transfer; run the step again")
    log.info("%s: %d files, %d of them downloaded now", name, len(files), len(missing))
    return copy / files[0].place if [file.path for file in files] == [root] else copy


def _listed(system: AbstractFileSystem, root: str) -> list[RemoteFile]:
    found: dict[str, dict[str, Any]] = system.find(root, detail=True)
    base = PurePosixPath(root)
    return [
        RemoteFile(
            path=path,
            place=base.name if path == root else PurePosixPath(path).relative_to(base).as_posix(),
            version=str(info.get("md5") or info.get("ETag") or info["size"]),
            md5=info.get("md5"),
        )
        for path, info in sorted(found.items())
        if not path.endswith("/")  # S3 consoles create an empty object for a folder
    ]
