"""Command line of a step, which DVC calls: `python -m components.STEP --params FILE`.

Exit codes: 0 success; 2 bad input, with one sentence on stderr; 130 interrupted. Any other code is a bug in this
project and comes with a traceback.
It uses argparse, so that `train` runs on a machine that has only the training packages.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components.common.errors import MobanetError


def entry_point(step: str, about: str, paths: Mapping[str, str], call: Callable[..., object]) -> None:
    """Parse the command line, call the step, and exit.

    Args:
        step: name of the step, for `--help`.
        about: one sentence on what the step does, for `--help`.
        paths: option name -> default path. Each becomes an option `--NAME PATH` and a keyword argument of `call`.
        call: called with `params` and every path as keyword arguments.
    """
    parser = argparse.ArgumentParser(prog=f"python -m components.{step}", description=about)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: params.yaml")
    for name, default in paths.items():
        parser.add_argument(f"--{name}", type=Path, default=Path(default), metavar="PATH", help=f"default: {default}")
    log_to_stderr()
    arguments = vars(parser.parse_args())
    sys.exit(exit_code(lambda: call(**arguments)))


USER_ERRORS = (MobanetError, OSError, KeyboardInterrupt)
"""Errors that a user can fix, including full disks and missing permissions."""


def exit_code(call: Callable[[], object]) -> int:
    """Run `call` and return the exit code. An error that a user can fix is printed to stderr as one line."""
    try:
        call()
    except USER_ERRORS as error:
        return explained(error)
    return 0


def explained(error: BaseException) -> int:
    """Print one of `USER_ERRORS` to stderr as one line, and return its exit code; 130 for Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    message = error if isinstance(error, MobanetError) else _system(error)
    print(f"error: {message}", file=sys.stderr)
    return getattr(error, "exit_code", MobanetError.exit_code)


def _system(error: BaseException) -> str:
    """An `OSError` as "FILE: problem"; its own message puts the file in the middle."""
    return f"{getattr(error, 'filename', None) or 'system'}: {getattr(error, 'strerror', None) or error}"


def log_to_stderr() -> None:
    """Print log messages to stderr without time and level."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=_Stderr())


class _Stderr:
    """Looks up `sys.stderr` for every line: rich replaces it while it draws a bar, to print lines above the bar."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
