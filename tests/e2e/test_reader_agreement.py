"""Check and preprocess agree on every raster: on the cases from the field and on 300 seeded mutations of them.

What check accepts, preprocess accepts; what preprocess rejects, check rejects with the same sentence; what preprocess
notes in the store's manifest, check reports, with the same numbers. A mutation is repeated by its number, its seed:
`print(mutated(folder, 17, base))`.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from tests.e2e.own_data import CASES, Ended, OwnData, case_data, needs_cases
from tests.mutations.raster_content import mutate

pytestmark = needs_cases

COUNT, GROUPS = 300, 20
LARGE = ("c06b", "c06c", "c07b", "c07c", "c18", "c42", "c42b", "c42c")
"""Cases that take long; they are compared, but not mutated."""

ISPRS = "c45_isprs_point_tfw"
LINKED = "c46_readonly_links"
"""Its files are links to files that a mutation would change for all."""

REJECTING = {
    *("unreadable", "band-count", "pixel-type", "position-inexact", "crs-unknown", "crs-missing", "grid-mismatch"),
    *("low-coverage", "dsm-blank", "dsm-units-differ", "label-nodata", "label-unknown"),
    *("image-blank", "label-hidden", "label-scaled", "mask-unread"),
}
"""Codes of errors that preprocess stops at; others are of the set as a whole, or make scores wrong."""

ACCEPT = re.compile(r"set check\.accept: (\{.*\})")
"""How an error says that it can be accepted."""

NOTED = {
    *("sparse", "crs-replaced", "crs-matched", "crs-assumed", "padded", "partly-covered", "grid-shift", "warped"),
    *(
        "label-warped",
        "image-alpha",
        "image-missing",
        "label-missing",
        "dsm-holes",
        "dsm-nodata-found",
        "unit-converted",
        "unit-replaced",
    ),
    *("scale-applied", "colours-snapped", "colours-unknown"),
}
"""Codes of what preprocess notes in the manifest, one finding a note."""

NUMBERS = ("class_px", "ignored_px", "snapped_px", "unknown_px")


def names() -> list[str]:
    return sorted(script.stem for script in CASES.glob("*.py") if script.stem != ISPRS)


def disagreements(ended: Ended) -> list[str]:
    """Where check and preprocess say different things."""
    errors, refused = ended.found(), ended.errors.get("preprocess")
    if "acquire" in ended.errors or any(one["code"] in ("file-missing", "tile-missing") for one in errors):
        return []
    if refused is not None:
        known = [one["sentence"] for one in errors] or [ended.errors.get("check", "nothing")]
        same = any(sentence in refused for sentence in known)
        return [] if same else [f"preprocess stops at what check does not: {refused}"]
    if not ended.report:
        return [f"preprocess accepts what check stops at: {ended.errors['check']}"]
    wrong = [f"preprocess accepts what check rejects: {one}" for one in errors if one["code"] in REJECTING]
    return wrong + [line for entry in ended.store.manifest.tiles for line in _tile(ended, entry)]


def _tile(ended: Ended, entry: Any) -> list[str]:
    """Where manifest and report of the check differ in a tile."""
    (tile,) = [one for one in ended.report["tiles"] if one["id"] == entry.id]
    label, dsm = (tile["files"][kind] for kind in ("label", "dsm"))
    if label["contents"] is None or dsm["pixels"] is None:
        return [f"{entry.id}: check could not read what preprocess stored"]
    pairs = {key: (label["contents"][key], _plain(getattr(entry, key))) for key in NUMBERS}
    pairs["dsm_missing_share"] = (dsm["pixels"]["missing_share"], round(entry.dsm_missing_share, 6))
    wrong = [
        f"{entry.id}: {key} is {ours} in check, {theirs} in preprocess"
        for key, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
    ours = {_line(one) for one in ended.findings if one["tile"] == entry.id}
    noted = {_line(one) for one in ended.findings if one["tile"] == entry.id and one["code"] in NOTED}
    wrong += [f"{entry.id}: check does not report {note!r}" for note in entry.notes if note not in ours]
    return wrong + [f"{entry.id}: preprocess does not note {line!r}" for line in noted - {*entry.notes}]


def _line(one: dict[str, Any]) -> str:
    return f"{one['file']}: {one['sentence']}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Callable[[str], OwnData]:
    """A case with tiles of 128 px, made once."""

    @cache
    def made(name: str) -> OwnData:
        return case_data(name, tmp_path_factory.mktemp(name), side_px=128)

    return made


def mutated(folder: Path, number: int, base: Callable[[str], OwnData]) -> tuple[OwnData, str]:
    """A mutation of a case, and what it is."""
    rng = np.random.default_rng(number)
    small = [name for name in names() if name.split("_")[0] not in LARGE and name != LINKED]
    name = small[int(rng.integers(len(small)))]
    original = base(name)
    shutil.copytree(original.files, folder / "data")
    data = original.copy(folder)
    try:
        done = mutate(rng, data)
    except rasterio.errors.RasterioError as error:  # GDAL cannot write such a file
        done = [f"not possible: {error}"]
    return data, f"{number}: {name}, {' + '.join(done)}"


@pytest.mark.parametrize("name", names())
def test_check_and_preprocess_agree_on_a_case(tmp_path, name):
    ended = case_data(name, tmp_path).run()
    assert not (wrong := disagreements(ended)), "\n".join([*wrong, ended.said()])


@pytest.mark.parametrize("group", range(GROUPS))
def test_check_and_preprocess_agree_on_mutations(tmp_path, base, group):
    wrong = []
    for number in range(group, COUNT, GROUPS):
        data, what = mutated(tmp_path / str(number), number, base)
        wrong += [f"{what}: {line}" for line in disagreements(data.run())]
        shutil.rmtree(tmp_path / str(number))
    assert not wrong, "\n".join(re.sub(f"{tmp_path}/", "", line) for line in wrong)


@pytest.mark.parametrize("group", range(4))
def test_an_error_that_says_how_to_accept_it_is_accepted_by_both_steps(tmp_path, base, group):
    wrong = []
    for number in range(COUNT + group, COUNT + 80, 4):
        data, what = mutated(tmp_path / str(number), number, base)
        ended = data.run()
        for _ in range(3):  # an error may hide another one of the same layer
            ways = [ACCEPT.search(one["sentence"]) for one in ended.found()]
            if not ways or not all(ways):
                break
            known = data.params.setdefault("check", {}).setdefault("accept", {})
            for code, tiles in (next(iter(yaml.safe_load(way[1]).items())) for way in ways):
                known[code] = "all" if "all" in (tiles, known.get(code)) else [*known.get(code, ()), *tiles]
            ended = data.run()
            again = [one for one in ended.found() if one["code"] in known]
            wrong += [f"{what}: {one['code']} is not accepted: {known}" for one in again]
            wrong += [f"{what}: {line}" for line in disagreements(ended)]
            stored = ended.store.manifest.accepted if ended.store else {}
            wrong += [f"{what}: {code} is not in the manifest" for code in known if ended.store and code not in stored]
    assert not wrong, "\n".join(wrong)
