"""Code that produced a file: git commit and version of this project. Needs only the standard library and git."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "mobanet-pipeline"
ROOT = Path(__file__).resolve().parents[3]


def git_commit() -> str:
    """The commit of this code, 40 hexadecimal digits; `-dirty` is appended if a tracked file has changed.

    The environment variable `GIT_COMMIT` comes first, because an image contains no repository. Otherwise git reads the
    commit of the code's folder. Without both, the result is `unknown`.
    """
    if given := os.environ.get("GIT_COMMIT", "").strip():
        return given
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def tool_version() -> str:
    """Version of the installed project, for example `0.1.0`; `unknown` if the project is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str | None:
    """Output of git without surrounding whitespace; None if git is missing, fails or takes longer than 20 s."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
