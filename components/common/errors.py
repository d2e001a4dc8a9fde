"""Errors that a user can cause: one sentence that states what is wrong, where, and what to do.

The entry points (`components.common.entrypoints`, `pipeline.cli`) print the sentence without a traceback and exit with
the code of the class: 2 where something must change first. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
from typing import ClassVar


class MobanetError(Exception):
    """Base class of all errors caused by bad input, bad settings or a bad environment."""

    exit_code: ClassVar[int] = 2


class ParamsError(MobanetError):
    """A key of params.yaml is unknown, missing, ill-typed or out of range."""


class DataError(MobanetError):
    """A raw tile is missing, unreadable, or contradicts the other files of the data set."""


class StoreError(MobanetError):
    """The store under data/store is missing, incomplete, or was written by another version."""


class WeightsError(MobanetError):
    """A weight file or checkpoint is missing, damaged, not writable, or belongs to another network."""


class TrackingError(MobanetError):
    """MLflow is not installed, not reachable, or lacks a run or model that a step needs."""


class TrustError(MobanetError):
    """A key cannot be used, or a package is not signed as the section trust demands."""


class ClusterError(MobanetError):
    """The cluster cannot run a multi-node training, refuses it, or that training failed."""


class NonFiniteError(MobanetError):
    """A loss, a gradient, a weight or a logit is NaN or infinite, so there is no result."""

    exit_code = 3


class TemporaryError(MobanetError):
    """A failure that may not happen again: the same command continues the work."""

    exit_code = os.EX_TEMPFAIL


def reason(error: BaseException) -> str:
    """The first line of an error, at most 200 characters, to quote in a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def printable(text: str) -> str:
    """Text from a file that may be hostile as one line of at most 600 characters, without control characters."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:600])
    return " ".join(shown.split())


def root(error: BaseException) -> BaseException:
    """The first error of a chain: `connection refused` instead of the errors that wrap it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
