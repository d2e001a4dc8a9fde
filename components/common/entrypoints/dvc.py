"""Command line of a step, which DVC calls: `python -m components.STEP --params FILE`.

Exit codes: 0 success; 130 interrupted. With one sentence on stderr: 2 something must change first, such as a parameter;
3 a value is not finite; 75 the same command continues the work. Any other code is a bug and comes with a traceback.
It uses argparse, so that `train` runs on a machine that has only the training packages.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components.common.entrypoints import failures
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


def exit_code(call: Callable[[], object]) -> int:
    """Run `call` and return the exit code. An error that a user can fix is printed to stderr as one line."""
    try:
        call()
    except (Exception, KeyboardInterrupt) as error:
        code = report_error(error)
        if code is None:
            raise
        return code
    return 0


def report_error(error: BaseException) -> int | None:
    """Print an error that a user can fix to stderr as one line, and return its exit code; None: it is a bug.

    These are the project's own errors, Ctrl-C, failures of the machine (`failures`), and all errors of the operating
    system, such as a missing permission.
    """
    if isinstance(error, KeyboardInterrupt):
        _print("interrupted; run the same command again to continue")
        return 130
    if failure := failures.find(error):
        _print(f"error: {failures.describe(failure, error)}")
        return failure.exit_code
    if not isinstance(error, MobanetError | OSError):
        return None
    _print(f"error: {error if isinstance(error, MobanetError) else _system(error)}")
    return getattr(error, "exit_code", MobanetError.exit_code)


def _print(line: str) -> None:
    """Write a line to stderr in one piece, so that lines of several ranks do not mix."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


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
