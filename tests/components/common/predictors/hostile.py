"""What corrupted and hostile model files share: what they try to run would write a canary file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

CANARY = Path(f"/tmp/mobanet_canary_{os.getpid()}")
COMMAND = f"touch {CANARY}"
PYTHON = f"__import__('os').system({COMMAND!r})"

Change = Callable[[bytes], bytes]


class Canary:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (COMMAND,)


def truncated(shares: tuple[float, ...]) -> Iterator[tuple[str, Change]]:
    for share in shares:
        yield f"truncated-{share}", lambda data, share=share: data[: int(len(data) * share)]
    yield "truncated-1-byte", lambda data: data[:-1]


def saved_pickle(data: bytes) -> bytes:
    content = io.BytesIO()
    torch.save({"a": Canary()}, content)
    return content.getvalue()
