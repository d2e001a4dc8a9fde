"""Code that produced a file: git commit and version of this project. Needs only the standard library and git."""

from __future__ import annotations

import functools
import logging
import os
import re
import subprocess
import sys
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from components.common.errors import reason

log = logging.getLogger(__name__)

DISTRIBUTION = "mobanet-pipeline"
ROOT = Path(__file__).resolve().parents[3]

CODE = ("model/*.py", "components/*.py", "pipeline/*.py", "params.yaml", "dvc.yaml")
"""Files below `ROOT` that shape results; git's `*` also matches `/`."""

SUFFIXES = tuple(all_suffixes())
"""Ends of the names of modules."""

TIMEOUT_S = 20.0

BINARIES = ("model/*.so", "components/*.so", "pipeline/*.so")
"""Further files below `ROOT` that Python can import."""

COMMIT_ID = re.compile(r"unknown|([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?")
"""What `GIT_COMMIT` may contain."""

OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Environment variables, set in git's hooks, that would make git answer for another repository."""


class _GitError(Exception):
    """Git is missing, fails or takes too long."""


def git_commit() -> str:
    """The commit of this code, 40 hexadecimal digits; `unknown` or with `-dirty` if git cannot vouch for the code.

    The environment variable `GIT_COMMIT` comes first, because an image contains no repository; a value that is no full
    commit id gives `unknown`. Otherwise the first call asks git, and the process keeps its answer, as it keeps the
    modules that it has imported. A warning gives the reason if the commit is unknown, or if it is dirty for another
    reason than changed files.
    """
    given = os.environ.get("GIT_COMMIT", "").strip()
    return _checked(given) if given else _commit_of(ROOT)


@functools.cache
def _checked(given: str) -> str:
    if COMMIT_ID.fullmatch(given):
        return given
    log.warning("the code's commit is recorded as unknown (GIT_COMMIT is %r, expected 40 hexadecimal digits)", given)
    return "unknown"


@functools.cache
def _commit_of(root: Path) -> str:
    try:
        if not _git(root, "ls-files", "--", *CODE):
            raise _GitError(f"{root} is not in a git repository")
        commit = _git(root, "rev-parse", "HEAD")
    except _GitError as error:
        log.warning("the code's commit is recorded as unknown (%s)", error)
        return "unknown"
    try:
        if _git(root, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none"):
            return f"{commit}-dirty"
        why = _unnoticed(root)
    except _GitError as error:
        why = str(error)
    if not why:
        return commit
    log.warning("the code's commit is recorded as dirty (%s)", why)
    return f"{commit}-dirty"


def _unnoticed(root: Path) -> str:
    """Why the code may differ from the commit, although git reports no change; empty: it does not."""
    places = (*CODE, *BINARIES, *_replacing(root))
    if untracked := _git(root, "ls-files", "--others", "--", *places).splitlines():
        return f"{untracked[0]} is not in git"
    for line in _git(root, "ls-files", "-v", "--", *places).splitlines():
        mark, name = line.split(" ", 1)
        if mark.islower() or mark == "S":
            return f"git does not check {name}, which is marked assume-unchanged or skip-worktree"
    return ""


def _replacing(root: Path) -> list[str]:
    """Modules in `root` that `python -m` imports instead of an installed package or a standard module."""
    modules = {path.name.split(".")[0]: path for path in root.iterdir() if path.name.endswith(SUFFIXES)}
    packages = {path.parent.name: path for suffix in SUFFIXES for path in root.glob(f"*/__init__{suffix}")}
    installed = sys.stdlib_module_names | packages_distributions().keys()
    return [path.relative_to(root).as_posix() for name, path in (modules | packages).items() if name in installed]


def tool_version() -> str:
    """Version of the installed project, for example `0.1.0`; `unknown` if the project is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    """Output of git in a folder, without surrounding whitespace."""
    environment = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise _GitError(f"git {arguments[0]} took longer than {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise _GitError(f"git cannot be run: {reason(error)}") from None
    if done.returncode:
        raise _GitError(reason(Exception(done.stderr or f"git {arguments[0]} exited with {done.returncode}")))
    return done.stdout.strip()
