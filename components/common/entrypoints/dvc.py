"""The door for DVC: `python -m components.STEP --params FILE`, paths from the command line, honest exit codes.

0 done. 2 bad input, one sentence on stderr. 130 interrupted. Anything else is a bug of ours and shows its traceback.
Uses argparse, so that a machine with only the training packages can open the door of `train`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components.common.errors import MobanetError


def open_door(step: str, about: str, paths: Mapping[str, str], call: Callable[..., object]) -> None:
    """Parse the command line, call the step, exit.

    Args:
        step: name of the step, for `--help`.
        about: what the step reads and writes, one sentence.
        paths: option name -> default path; each becomes `--NAME PATH` and a keyword argument of `call`.
        call: gets `params` and every path as keyword arguments.
    """
    parser = argparse.ArgumentParser(prog=f"python -m components.{step}", description=about)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: params.yaml")
    for name, default in paths.items():
        parser.add_argument(f"--{name}", type=Path, default=Path(default), metavar="PATH", help=f"default: {default}")
    log_to_stderr()
    arguments = vars(parser.parse_args())
    sys.exit(exit_code(lambda: call(**arguments)))


MENDABLE = (MobanetError, OSError, KeyboardInterrupt)
"""What a user can mend; full disks and missing permissions are among it."""


def exit_code(call: Callable[[], object]) -> int:
    """Run `call`; say in one line what a user can mend, and return the exit code."""
    try:
        call()
    except MENDABLE as error:
        return explained(error)
    return 0


def explained(error: BaseException) -> int:
    """Say one of `MENDABLE` in one line, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    message = error if isinstance(error, MobanetError) else _system(error)
    print(f"error: {message}", file=sys.stderr)
    return 2


def _system(error: BaseException) -> str:
    """An `OSError` in words; its own message names the file in the middle."""
    return f"{getattr(error, 'filename', None) or 'system'}: {getattr(error, 'strerror', None) or error}"


def log_to_stderr() -> None:
    """Show log messages as they are, without time and level."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=_Stderr())


class _Stderr:
    """Looks up `sys.stderr` at every line: while a progress bar is drawn, rich stands there and prints above it."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
