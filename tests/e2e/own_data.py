"""A user's own data in one folder, and the three steps that turn them into a store, run in this process.

`OwnData` holds what a user writes: the files, dataset.yaml, a split and what differs in params.yaml. `run` returns what
the steps did: their errors, the findings of the check, and the store.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from rasterio.errors import NotGeoreferencedWarning

from components.acquire.__main__ import main as acquire
from components.check.__main__ import main as check
from components.common.data import datasets
from components.common.data.store import Store
from components.common.errors import MobanetError
from components.preprocess.__main__ import main as preprocess
from tests.e2e.conftest import ROOT, merged

CASES = ROOT.parent / "shared/cases/rasters"
NAME = "town"
EXACT = {"method": "training-range", "clip": [-1e5, 1e5]}
"""Settings of the heights with which metres can be computed back from a store."""

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there: the cases are not published")


@dataclass(frozen=True)
class Ended:
    """How the three steps ended; a step that an earlier one stopped is not run."""

    errors: dict[str, str]  # step -> its sentence
    report: dict[str, Any]  # of the check; empty if there is none
    store: Store | None

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the check found, worst first."""
        return self.report.get("findings", [])

    def found(self, severity: str = "error") -> list[dict[str, Any]]:
        """The findings of one severity."""
        return [one for one in self.findings if one["severity"] == severity]

    def said(self) -> str:
        """Errors and findings, a line each, for the message of a failed test."""
        lines = [f"{step}: {sentence}" for step, sentence in self.errors.items()]
        lines += [f"{f['severity']} {f['code']} {f['file'] or f['tile']}: {f['sentence']}" for f in self.findings]
        return "\n".join(lines) or "nothing"


@dataclass
class OwnData:
    """What a user has; `folder / "data"` holds the files."""

    folder: Path
    facts: dict[str, Any]  # dataset.yaml
    split: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)  # what differs in params.yaml

    @property
    def files(self) -> Path:
        """The user's files."""
        return self.folder / "data"

    def copy(self, folder: Path) -> OwnData:
        """The same for another folder, which has the files."""
        return OwnData(folder, *(copy.deepcopy(each) for each in (self.facts, self.split, self.params)))

    def run(self, source: str = "folder") -> Ended:
        """Acquire, check and preprocess in the folder; preprocess runs even if the check found errors."""
        path, raw, report, store = (Path(name) for name in ("params.yaml", "raw", "check.json", "store"))
        errors: dict[str, str] = {}
        with chdir(self.folder), self._described(path, source):
            for old in (raw, store):
                shutil.rmtree(old, ignore_errors=True)
            report.unlink(missing_ok=True)
            for step, call in (
                ("acquire", lambda: acquire(path, raw)),
                ("check", lambda: check(path, raw, report)),
                ("preprocess", lambda: preprocess(path, raw, store)),
            ):
                try:
                    call()
                except MobanetError as error:
                    errors[step] = str(error)
                    assert "\n" not in str(error), f"an error of several lines: {error}"
                    if step == "acquire":
                        break
            found = json.loads(report.read_text()) if report.exists() else {}
        failed = "preprocess" in errors or "acquire" in errors
        return Ended(errors, found, None if failed else Store(self.folder / store))

    @contextmanager
    def _described(self, path: Path, source: str) -> Iterator[None]:
        """Write dataset.yaml, split and params.yaml; `datasets` sees this data set alone."""
        name = NAME if source == "folder" else source
        target = Path("datasets") / name
        target.mkdir(parents=True, exist_ok=True)
        (target / "dataset.yaml").write_text(yaml.safe_dump(self.facts, allow_unicode=True, sort_keys=False))
        (target / "mine.yaml").write_text(yaml.safe_dump(self.split, allow_unicode=True))
        data = {"source": "folder" if source == "folder" else "isprs", "dataset": name, "split": "mine"}
        ours = {"data": data | {"path": "data"}, "check": {"workers": 1}, "preprocess": {"workers": 1}}
        params = merged(merged(yaml.safe_load((ROOT / "params.yaml").read_text()), ours), self.params)
        path.write_text(yaml.safe_dump(params))
        datasets.tiles.cache_clear()
        try:
            with patch.object(datasets, "FOLDER", target.parent), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                yield
        finally:
            datasets.tiles.cache_clear()


def described(folder: Path, **facts: Any) -> OwnData:
    """Own data with three classes told by the values 0, 1 and 2, three bands of 8 bits, metres that can be compared."""
    classes = [
        {"name": name, "rgb": [value, 100, 200], "in_means": True, "value": value}
        for value, name in enumerate(("ground", "building", "tree"))
    ]
    image = {"files": "images/{tile}.tif", "bands": ["red", "green", "blue"], "range": [0, 255]}
    usual = {
        "gsd_m": 0.25,
        "crs": None,
        "acknowledgement": "made by a test",
        "labels": "values",
        "classes": classes,
        "class_shares": None,
        "image": {"one": image | {"mean": [0.5] * 3, "std": [0.25] * 3}},
        "dsm": {"one": {"files": "dsm/{tile}.tif", "unit_m": 1.0, "relative_to": "datum"}},
        "label": "labels/{tile}.tif",
        "eroded": None,
    }
    return OwnData(
        folder, usual | facts, {"train": ["a"], "val": ["b"], "test": ["c"]}, {"preprocess": {"heights": EXACT}}
    )


SIDE = "N, GSD, EAST, NORTH = 256,"
"""The line of a case's script that says how large its tiles are."""


def run_case_script(name: str, folder: Path, side_px: int = 256) -> None:
    """Let the script of a case make its files; tiles have this side, unless the case needs another."""
    script = CASES / f"{name}.py"
    code = compile(script.read_text().replace(SIDE, SIDE.replace("256", str(side_px))), str(script), "exec")
    with patch.object(sys, "argv", [str(script), str(folder)]), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        exec(code, {"__name__": "__main__", "__file__": str(script)})


def case_data(name: str, folder: Path, side_px: int = 256) -> OwnData:
    """Own data that the script of a case made."""
    run_case_script(name, folder, side_px)
    facts = json.loads((folder / "dataset/dataset.yaml").read_text())
    changes = json.loads((folder / "patch.json").read_text())
    params = {"data": changes["data"], "preprocess": changes.get("preprocess", {}) | {"heights": changes["heights"]}}
    return OwnData(folder, facts, json.loads((folder / "dataset/east.yaml").read_text()), params)


@dataclass(frozen=True)
class Difference:
    """How a tile of a store differs from what is right; None: not compared."""

    image: int | None  # largest difference of a pixel value
    measured_px: int | None  # pixels measured in one of the two only
    metres: float | None  # largest difference of a height that both have, without the outermost pixels
    edge_m: float | None  # the same, of the outermost pixels
    label_px: int | None

    def within(self, metres: float, edge_m: float) -> bool:
        """Whether image, label and measured pixels are the same, and heights up to so many metres."""
        same = not (self.image or self.label_px or self.measured_px)
        return same and (self.metres or 0) <= metres and (self.edge_m or 0) <= edge_m


def metres_of(store: Store, tile: str) -> np.ndarray:
    """Heights of a stored tile, metres."""
    heights = store.manifest.heights
    entry = next(entry for entry in store.manifest.tiles if entry.id == tile)
    return store[entry].dsm_HW.astype(np.float64) * (heights.scale_m or 1.0) + (heights.offset_m or 0.0)


def differences(store: Store, expected: Path) -> dict[str, Difference]:
    """Each tile of the store against `expected.npz` of a case."""
    with np.load(expected) as file:
        want = dict(file)
    found: dict[str, Difference] = {}
    for entry in store.manifest.tiles:
        tile, metres = store[entry], want.get(f"{entry.id}_metres")
        image, label = want.get(f"{entry.id}_image"), want.get(f"{entry.id}_label")
        measured_px = off_m = edge_m = None
        if metres is not None:
            ours = metres_of(store, entry.id)
            off = np.nan_to_num(np.abs(metres - ours))
            measured_px = int((np.isnan(metres) != np.isnan(ours)).sum())
            off_m, edge_m = float(off[1:-1, 1:-1].max()), float(off.max())
        found[entry.id] = Difference(
            None if image is None else int(np.abs(image.astype(int) - tile.image_HWC).max()),
            measured_px,
            off_m,
            edge_m,
            None if label is None else int((label != tile.label_HW).sum()),
        )
    return found
