"""Build the files of a release into dist/: `make release`. Two builds of one tag are byte-equal.

In: a clean clone whose commit has a tag such as v1.2.3. Out, in `dist`, which is replaced atomically: wheel, sdist with
all files of the repository, `CHANGES-1.2.3.md`, the bill of materials of `requirements.lock`, and `SHA256SUMS`. The
build runs in a copy of the commit, so files that are not committed cannot get in, and the version is that of the tag.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.common.entrypoints.dvc import exit_code, log_to_stderr
from components.common.errors import MobanetError, reason
from components.common.files import digest, replacing_folder
from components.common.tracking.provenance import DISTRIBUTION, OTHER_REPOSITORY, ROOT

log = logging.getLogger(__name__)

TAG = re.compile(r"v(?P<version>\d+\.\d+\.\d+((a|b|rc)\d+)?)")
"""A tag that names a release; the version is as PEP 440 writes it, without leading v."""

VERSION_LINE = re.compile(r'^__version__ = "(?P<version>.*)"$', re.M)
VERSION_FILE, CHANGELOG, LOCK = "pipeline/__init__.py", "CHANGELOG.md", "requirements.lock"

SUMS = "SHA256SUMS"

UMASK = 0o022
"""Permissions that no file of a release has, whatever the umask of the user."""

EARLIEST_S = 315_532_800
"""1980-01-01, seconds since 1970: the first time that a wheel can record."""


class ReleaseError(MobanetError):
    """The clone is not a release: no tag, changed files, no entry in the changelog, or a build that fails."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is released."""

    version: str  # 1.2.3
    commit: str  # 40 hexadecimal digits
    time_s: int  # of the commit, seconds since 1970; the time of every file


def run(root: Path, dist: Path) -> Release:
    """Build a release.

    Args:
        root: a clone of the project.
        dist: folder to write; an earlier one stays until the new one is complete.

    Raises:
        ReleaseError: the commit has no tag or several, files are changed, the changelog has no entry, or the build
            fails.
    """
    release = find_release(root)
    with tempfile.TemporaryDirectory() as place, replacing_folder(dist) as draft:
        source = Path(place) / "source"
        export(root, release, source)
        changes = changes_of(source / CHANGELOG, release.version)
        _set_version(source / VERSION_FILE, release.version)
        _include_everything(source)
        _settle(source, release)
        _build(source, draft, release)
        for sdist in draft.glob("*.tar.gz"):
            sdist.write_bytes(normalised(sdist.read_bytes(), release.time_s))
        (draft / f"CHANGES-{release.version}.md").write_text(changes)
        _write_materials(draft, source / LOCK, release.version)
        files = sorted(path.name for path in draft.iterdir())
        (draft / SUMS).write_text("".join(f"{digest(draft / name)}  {name}\n" for name in files))
        draft.chmod(0o777 & ~UMASK)
        for path in draft.iterdir():
            path.chmod(0o666 & ~UMASK)
    return release


def find_release(root: Path) -> Release:
    """The release that the checked-out commit is.

    Raises:
        ReleaseError: it has no tag or several tags of a release, or files are changed.
    """
    commit = _git(root, "rev-parse", "HEAD")
    tags = _git(root, "tag", "--points-at", "HEAD").split()
    found = [match["version"] for tag in tags if (match := TAG.fullmatch(tag))]
    if len(found) != 1:
        what = f"several release tags ({', '.join(tags)})" if found else "no tag such as v1.2.3"
        raise ReleaseError(
            f"{root}: commit {commit[:12]} has {what}; check out a tagged commit, or tag it with git tag vX.Y.Z"
        )
    if changed := _git(root, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none").splitlines():
        raise ReleaseError(
            f"{root}: {changed[0].split()[-1]} and {len(changed) - 1} further files differ from the commit; commit "
            "and tag them, or restore them"
        )
    return Release(found[0], commit, max(EARLIEST_S, int(_git(root, "log", "-1", "--format=%ct"))))


def export(root: Path, release: Release, folder: Path) -> None:
    """Copy the files of the commit into a folder, with the line ends of the repository."""
    same = ("-c", "core.autocrlf=false", "-c", "core.eol=lf")
    archive = _run(root, "git", *same, "archive", "--format=tar", release.commit)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def changes_of(changelog: Path, version: str) -> str:
    """The section of a version in the changelog, with its heading.

    Raises:
        ReleaseError: there is none, or it is empty.
    """
    text = changelog.read_text() if changelog.is_file() else ""
    heading = re.compile(rf"^## v?{re.escape(version)}(?![\w.]).*$", re.M)
    found = heading.search(text)
    body = re.split(r"^## ", text[found.end() :], maxsplit=1, flags=re.M)[0].strip() if found else ""
    if found is None or not body:
        raise ReleaseError(
            f"{CHANGELOG} of this tag has no section '## {version}' with text; rename '## Unreleased' to it, commit, "
            "and move the tag"
        )
    return f"{found[0]}\n\n{body}\n"


def normalised(sdist: bytes, time_s: int) -> bytes:
    """An sdist with sorted members, one time, no owner, and permissions that depend on nothing but `x`.

    Args:
        sdist: content of a .tar.gz file.
        time_s: time of every member, seconds since 1970.
    """
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as old,
        gzip.GzipFile(fileobj=made, mode="wb", filename="", mtime=time_s) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.linkname, clean.mtime = member.type, member.size, member.linkname, time_s
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(clean, old.extractfile(member) if member.isreg() else None)
    return made.getvalue()


def _set_version(path: Path, version: str) -> None:
    text = path.read_text()
    found = VERSION_LINE.findall(text)
    if len(found) != 1:
        raise ReleaseError(f'{VERSION_FILE}: expected one line __version__ = "...", found {len(found)}; restore it')
    if found[0] != version:
        log.info("%s says %s; the release has the version of the tag, %s", VERSION_FILE, found[0], version)
    path.write_text(VERSION_LINE.sub(f'__version__ = "{version}"', text))


def _include_everything(source: Path) -> None:
    """Name all files of the repository for the sdist, so that `make setup` works in it."""
    kinds = [("graft" if path.is_dir() else "include", path.name) for path in sorted(source.iterdir())]
    (source / "MANIFEST.in").write_text("".join(f"{kind} {name}\n" for kind, name in kinds))


def _settle(source: Path, release: Release) -> None:
    """Give all files the time of the commit, and permissions without regard to the user's umask."""
    for path in [source, *source.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (release.time_s, release.time_s))


def _build(source: Path, out: Path, release: Release) -> None:
    """Build sdist and wheel with the installed setuptools."""
    fixed = {"SOURCE_DATE_EPOCH": str(release.time_s), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out.resolve()), str(source))
    _run(source.parent, *command, **fixed)


def _write_materials(out: Path, lock: Path, version: str) -> None:
    from components.export.origin.bom import environment_bom
    from components.export.origin.software import locked_packages

    content = environment_bom(DISTRIBUTION, version, locked_packages(lock))
    text = json.dumps(content, indent=2, allow_nan=False)
    (out / f"{DISTRIBUTION.replace('-', '_')}-{version}.cdx.json").write_text(text + "\n")


def _git(root: Path, *arguments: str) -> str:
    return _run(root, "git", *arguments).decode().strip()


def _run(folder: Path, *command: str, **variables: str) -> bytes:
    """Output of a command.

    Raises:
        ReleaseError: it cannot be started or fails; the sentence has the last line that it printed.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in (*OTHER_REPOSITORY, "PYTHONPATH")}
    try:
        done = subprocess.run(command, cwd=folder, env=inherited | variables, capture_output=True, umask=UMASK)
    except OSError as error:
        raise ReleaseError(f"{command[0]} cannot be started ({reason(error)}); install it") from None
    if done.returncode:
        lines = (done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace")).strip().splitlines()
        name = " ".join(Path(word).name for word in command[:3])
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise ReleaseError(f"{folder}: {name} failed ({last[:200]}); correct this and run make release again")
    return done.stdout


def main() -> None:
    """Build the release of this clone into its folder dist."""
    dist = ROOT / "dist"
    release = run(ROOT, dist)
    log.info("release %s of commit %s in %s:", release.version, release.commit[:12], dist)
    for path in sorted(dist.iterdir()):
        log.info("  %s", path.name)


if __name__ == "__main__":
    log_to_stderr()
    sys.exit(exit_code(main))
