"""Which code made a file: the git commit and the version of this project. Uses the standard library and git alone."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "mobanet-pipeline"
ROOT = Path(__file__).resolve().parents[3]


def git_commit() -> str:
    """The commit of this code, 40 hexadecimal digits.

    `GIT_COMMIT` in the environment comes first: an image has no repository inside. Otherwise git is asked about the
    folder that the code lies in, and `-dirty` is added when a tracked file differs. Without either: `unknown`.
    """
    if given := os.environ.get("GIT_COMMIT", "").strip():
        return given
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def tool_version() -> str:
    """Version of the installed project, for example `0.1.0`; `unknown` where the code runs without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str | None:
    """Output of git without the blanks around it; None when git is missing, fails or takes too long."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
