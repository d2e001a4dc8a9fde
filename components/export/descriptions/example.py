"""The runnable example of a package: a script that needs NumPy and ONNX Runtime only, the same for every model."""

from __future__ import annotations

import shutil
from pathlib import Path

FILE = "predict_example.py"
"""Name of the script in a package; it is the module of this name, which is checked and tested as all others are."""


def write_example(path: Path) -> None:
    """Copy the script to `path`."""
    shutil.copyfile(Path(__file__).with_name(FILE), path)
