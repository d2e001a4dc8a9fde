"""Code that produced a file: git commit and version of this project. Needs only the standard library and git."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.common.errors import reason

log = logging.getLogger(__name__)

DISTRIBUTION = "mobanet-pipeline"
ROOT = Path(__file__).resolve().parents[3]

CODE = ("model/*.py", "components/*.py", "pipeline/*.py", "params.yaml", "dvc.yaml")
"""Files below `ROOT` that shape results; git's `*` also matches `/`."""

TIMEOUT_S = 20.0

OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Environment variables, set in git's hooks, that would make git answer for another repository."""


class _GitError(Exception):
    """Git is missing, fails or takes too long."""


def git_commit() -> str:
    """The commit of this code, 40 hexadecimal digits; `unknown` or with `-dirty` if git cannot vouch for the code.

    The environment variable `GIT_COMMIT` comes first, because an image contains no repository. Otherwise the first call
    asks git, and the process keeps its answer, because it also keeps the modules that it has imported. A warning gives
    the reason if the commit is unknown, or if it is dirty for another reason than changed files.
    """
    return os.environ.get("GIT_COMMIT", "").strip() or _commit_of(ROOT)


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
        untracked = _git(root, "ls-files", "--others", "--", *CODE).splitlines()
        why = f"{untracked[0]} is not in git" if untracked else ""
    except _GitError as error:
        why = str(error)
    if not why:
        return commit
    log.warning("the code's commit is recorded as dirty (%s)", why)
    return f"{commit}-dirty"


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
