"""Files and folders of this machine that the parameters of a graph name, for runs on this machine.

Tasks have another working directory, and a container sees only what is mounted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.tracking.registered_models import SCHEME
from components.predict.publication.scenes import GLOB, is_remote, moved

FILES = {"data_path": Path.exists, "data_repo": Path.exists, "model_weights": Path.is_file}
"""Parameter of the training graph that may name a file or folder -> function that tells whether it does."""


@dataclass(frozen=True, slots=True)
class Places:
    """What tasks read and write on this machine."""

    values: Mapping[str, str]  # parameter -> value with absolute paths
    read: tuple[Path, ...] = ()
    written: tuple[Path, ...] = ()


def training_places(form: Mapping[str, Any]) -> Places:
    """Files and folders that the training graph reads.

    `data_path` is skipped if `data_repo` is set, because it is then a path inside that repository.
    """
    inside = {"data_path"} if form["data_repo"] else set()
    given = {name: Path(form[name]).expanduser() for name in FILES.keys() - inside if form[name]}
    found = {name: path.resolve() for name, path in given.items() if FILES[name](path)}
    return Places({name: str(path) for name, path in found.items()}, tuple(found.values()))


def prediction_places(form: Mapping[str, Any]) -> Places:
    """Files and folders that the prediction graph reads and writes.

    Of a file, the folder is read: a VRT and sidecar files lead to other files there.
    """
    read: set[Path] = set()

    def local(name: str) -> str:
        if is_remote(name) or name.startswith(SCHEME):
            return name
        path = Path(name).expanduser().absolute()
        folder = path
        while not folder.is_dir() or set(folder.name) & GLOB:
            folder = folder.parent
        read.add(folder)
        return str(path)

    values = {name: moved(form[name], local) for name in ("image", "dsm")}
    values["model"] = local(form["model"]) if form["model"] else ""
    written: tuple[Path, ...] = ()
    if form["output"] and not is_remote(form["output"]):
        written = (Path(form["output"]).expanduser().absolute(),)
        values["output"] = str(written[0])
    return Places(values, tuple(sorted(read - set(written))), written)


def watch_places(form: Mapping[str, Any]) -> Places:
    """Files and folders that the graph `watch` reads; it writes artifacts only."""
    found = prediction_places({**form, "output": ""})
    return Places(found.values, found.read)
