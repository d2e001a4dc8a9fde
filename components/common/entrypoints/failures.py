"""Failures of the machine, not of the code: one sentence with the parameters that help, and an exit code.

In: an exception of a step. Out: the row of `FAILURES` that it belongs to, a sentence, and a file with the traceback.
The exit code is 75 if the same command continues the work, and 2 if something must change first.
Errors are recognised by class name, errno and text, because this module must not import torch.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.common.errors import MobanetError, TemporaryError, reason
from components.common.files import replacing

LOG_FOLDER = "MOBANET_LOGS"
"""Environment variable with the folder for tracebacks; default: `logs` in the current folder."""

WITH_TEXT = {"RuntimeError", "OSError", "SafetensorError"}
"""Classes of the exceptions whose text may tell a failure. Other exceptions only quote such texts."""

CHANGE, AGAIN = MobanetError.exit_code, TemporaryError.exit_code

NEW_RUN = "or lower train.batch_size or train.crop_px in a new run"


@dataclass(frozen=True, slots=True)
class Failure:
    """How to recognise a failure, and what to tell the user. An error matches if its type, errno or text does."""

    problem: str
    advice: str  # if `by_step` does not name the step
    exit_code: int
    types: frozenset[str] = frozenset()  # names of exception classes, also of base classes
    errnos: frozenset[int] = frozenset()
    text: str = r"(?!)"  # regular expression; the default matches nothing
    by_step: Mapping[str, str] = field(default_factory=dict)  # step -> advice

    def matches(self, error: BaseException) -> bool:
        """Whether an exception is this failure."""
        names = {cls.__name__ for cls in type(error).__mro__}
        if names & self.types or (isinstance(error, OSError) and error.errno in self.errnos):
            return True
        return bool(names & WITH_TEXT) and re.search(self.text, str(error)) is not None


GPU_MEMORY = Failure(
    "the GPU has no free memory left",
    "stop other programs on this GPU, or use one with more memory",
    CHANGE,
    types=frozenset({"OutOfMemoryError"}),
    text=r"CUDA out of memory|CUDA error: out of memory|Cuda failure.*out of memory|CUBLAS_STATUS_ALLOC_FAILED",
    by_step={
        "train": f"set runtime.speed.checkpoint_blocks: true, {NEW_RUN}",
        "evaluate": "lower evaluate.batch_size or evaluate.window_px",
    },
)
SHARED_MEMORY = Failure(
    "the shared memory of this host or container, /dev/shm, is full",
    "give the container more (docker run --shm-size=8g), or lower runtime.workers",
    CHANGE,
    text=r"(?s)signal: Bus error|(?=.*(/dev/shm|shared memory|</torch_\d|posix_fallocate)).*No space left on device",
)
LOADER = Failure(
    "a loader process was killed, most likely because memory ran out",
    f"run the same command again to continue; if it happens again, lower runtime.workers, {NEW_RUN}",
    AGAIN,
    text=r"DataLoader worker \(pid",
)
MEMORY = Failure(
    "this host or container has no free memory left",
    "use a machine with more memory, or smaller tiles",
    CHANGE,
    types=frozenset({"MemoryError"}),
    errnos=frozenset({errno.ENOMEM}),
    text=r"DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc|[Cc]annot allocate memory",
    by_step={
        "acquire": "lower sample.side_px, or import smaller tiles",
        "check": "set a lower number of processes (--jobs), or use smaller tiles",
        "preprocess": "lower preprocess.workers, or use smaller tiles",
        "train": f"lower runtime.workers, {NEW_RUN}",
        "evaluate": "lower evaluate.batch_size, or use smaller tiles",
    },
)
OPEN_FILES = Failure(
    "this process may not open more files",
    "raise the limit with `ulimit -n 65536`, or lower the number of workers",
    CHANGE,
    errnos=frozenset({errno.EMFILE, errno.ENFILE}),
    text=r"Too many open files|received 0 items of ancdata",
)
PROCESSES = Failure(
    "this user may not start more processes or threads",
    "raise the limit with `ulimit -u`, or lower the number of workers",
    CHANGE,
    text=r"can't start new thread|pthread_create failed",
)
PORT = Failure(
    "the port that the ranks use is taken by another program",
    "wait until that program ends, or choose another port (torchrun --master-port, or MASTER_PORT)",
    CHANGE,
    errnos=frozenset({errno.EADDRINUSE}),
    text=r"EADDRINUSE|[Aa]ddress already in use",
)
LOST_RANK = Failure(
    "the connection to another rank is broken or timed out",
    "see the log of that rank, then run the same command again to resume from the last checkpoint",
    AGAIN,
    types=frozenset({"DistError"}),  # NCCL and torchrun's store
    text=r"gloo/|Connection (closed|reset|refused) by peer",
)
DISK = Failure(
    "the disk is full",
    "free some space, then run the same command again to continue",
    CHANGE,
    errnos=frozenset({errno.ENOSPC, errno.EDQUOT}),
    text=rf"No space left on device|Disk quota exceeded|\(os error ({errno.ENOSPC}|{errno.EDQUOT})\)",
)

FAILURES = (GPU_MEMORY, SHARED_MEMORY, LOADER, MEMORY, OPEN_FILES, PROCESSES, PORT, LOST_RANK, DISK)
"""Rows in the order in which they are tried: `No space left on device` may be about /dev/shm."""


def find(error: BaseException) -> Failure | None:
    """The failure that an exception or its explicit cause is; None for anything else, such as a bug."""
    chained: BaseException | None = error
    while isinstance(chained, Exception) and not isinstance(chained, MobanetError):
        for failure in FAILURES:
            if failure.matches(chained):
                return failure
        chained = chained.__cause__
    return None


def describe(failure: Failure, error: BaseException) -> str:
    """Describe a failure in one sentence. The traceback is written to a file that the sentence names."""
    step = next(_steps(error), "")
    rank = f" rank {os.environ['RANK']}" if step and "RANK" in os.environ else ""
    place = getattr(error, "filename", None) or f"{step or 'system'}{rank}"
    cause = re.sub(r"^\[\S+:\d+\] ", "", reason(error)).rstrip(".")  # without the line of code of torch's libraries
    advice = failure.by_step.get(step, failure.advice)
    return f"{place}: {failure.problem} ({cause}); {advice}; {_written(step, error)}"


def _steps(error: BaseException) -> Iterator[str]:
    """The steps whose code the error passed, innermost first."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for name in reversed(names):
        if (found := re.match(r"components\.(\w+)\.", name)) and found[1] != "common":
            yield found[1]


def _written(step: str, error: BaseException) -> str:
    """Write the traceback of an error to a file; returns where it is, in words."""
    text = "".join(traceback.format_exception(error))
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{step or 'mobanet'}-{os.getpid()}.txt"
    for folder in (Path(os.environ.get(LOG_FOLDER) or "logs"), Path(tempfile.gettempdir())):
        try:
            with replacing(folder / name) as draft:
                draft.write_text(text)
        except OSError:  # a full disk, or a folder that this user cannot write
            continue
        return f"the traceback is in {folder / name}"
    return "the traceback could not be written"
