"""What becomes of one malformed input: put through import, check and preprocess, and judged. Runs in a worker process.

A case ends well in one of these ways:
found       the check says something about the damaged tile (and a store that is made all the same is a valid one)
refused     a `MobanetError` of one line
harmless    the store is the clean one, pixel by pixel
hidden      pixels differ, but are possible ones: only where no reader could tell, and the store's record of the source
            file differs from the clean one's, so that it is another data version
Whatever a store holds is judged in all of them: sizes, classes, range of the heights, layers that were not touched.
"""

from __future__ import annotations

import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.acquire.isprs_files import collect
from components.check.config import CheckConfig
from components.check.step import examine
from components.common.data import datasets
from components.common.data.datasets import IGNORE, Split
from components.common.data.rawtree import RECORD, RawTree, read_raw_tree
from components.common.data.store import Store, Tile
from components.common.errors import MobanetError
from components.preprocess.height_settings import HeightsConfig
from components.preprocess.step import PreprocessConfig, make_store
from tests.isprs_package import write_package
from tests.mutations.archives import ABSOLUTE
from tests.mutations.cases import ARCHIVES, FACTS, MAY_HIDE, RECORDS, TILES
from tests.mutations.records import text_damage
from tests.mutations.victim import Victim

VICTIM, OTHER = "2_10", "3_10"
SPLIT = Split("tiny", train=(VICTIM, "2_11"), val=("2_12",), test=(OTHER,))
ALONE = Split("tiny", train=(VICTIM,), val=(), test=())
SIDE_PX = 32
CLIP = (-0.5, 2.0)
CHECK = CheckConfig(
    max_dsm_missing_share=0.5, max_disagreement_share=0.01, max_class_share_deviation=100, accept={}, workers=1
)
PREPROCESS = PreprocessConfig(
    heights=HeightsConfig(
        method="above-ground", ground_radius_m=12.0, scale_m=10.0, percentiles=(2.0, 98.0), clip=CLIP
    ),
    max_unknown_share=0.001,
    max_pad_px=8,
    workers=1,
)
LAYERS = {"image": "image_HWC", "dsm": "dsm_HW", "label": "label_HW", "eroded": "eroded_HW"}


@dataclass(frozen=True)
class Base:
    """Clean things, made once."""

    archive: Path
    raw: Path
    store: Path


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    how: str  # found | refused | harmless | hidden | WRONG
    detail: str


def make_base(folder: Path) -> Base:
    """A clean archive, imported and preprocessed."""
    (archive,) = write_package(folder, "potsdam", SPLIT.tiles, side_px=SIDE_PX)
    raw, store = folder / "raw", folder / "store"
    tree = collect([archive], datasets.dataset("potsdam"), raw, exact=False)
    make_store(PREPROCESS, SPLIT, tree, store)
    found = examine(tree, (SPLIT,), True, CHECK, PREPROCESS.reader()).findings
    assert not found, found
    return Base(archive, raw, store)


def run_case(base: Base, category: str, number: int) -> Outcome:
    """Damage a copy, put it through, judge. Whatever is no `MobanetError` comes out as it is."""
    rng = np.random.default_rng(zlib.crc32(f"{category} {number}".encode()))
    with tempfile.TemporaryDirectory(dir=base.raw.parent) as name:
        room = Path(name) / "room"
        room.mkdir()
        if category in TILES:
            return _tile_case(base, category, rng, room)
        if category in RECORDS:
            return _record_case(base, category, rng, room)
        if category in FACTS:
            return _facts_case(category, rng, room)
        return _archive_case(base, category, rng, room)


def _tile_case(base: Base, category: str, rng: np.random.Generator, room: Path) -> Outcome:
    raw = shutil.copytree(base.raw, room / "raw")
    tree = read_raw_tree(raw)
    paths, others = ({kind: raw / place for kind, place in tree.tiles[tile].items()} for tile in (VICTIM, OTHER))
    mutate, _ = TILES[category]
    touched = mutate(rng, Victim(raw, paths, others))
    return _put_through(base, tree, room / "store", touched, category in MAY_HIDE)


def _record_case(base: Base, category: str, rng: np.random.Generator, room: Path) -> Outcome:
    raw = shutil.copytree(base.raw, room / "raw")
    mutate, _ = RECORDS[category]
    mutate(rng, raw / RECORD)
    try:
        tree = read_raw_tree(raw)
    except MobanetError as error:
        return _refused(error)
    if tree.dataset == read_raw_tree(base.raw).dataset:
        return _put_through(base, tree, room / "store", set(), False)
    try:  # another data set, which is valid: its store need not be the clean one, but nothing may break
        examine(tree, (SPLIT,), True, CHECK, PREPROCESS.reader())
        make_store(PREPROCESS, ALONE, tree, room / "store")
    except MobanetError as error:
        return _refused(error)
    return Outcome("harmless", "another data set, valid in itself")


def _facts_case(category: str, rng: np.random.Generator, room: Path) -> Outcome:
    folder = room / "datasets"
    name, _ = FACTS[category]
    (folder / "potsdam").mkdir(parents=True)
    for source in (datasets.FOLDER / "potsdam").glob("*.yaml"):
        shutil.copy(source, folder / "potsdam")
    damaged = folder / "potsdam" / name
    damaged.write_text(text_damage(rng, damaged.read_text()))
    kept, datasets.FOLDER = datasets.FOLDER, folder
    try:
        found = datasets.dataset("potsdam")
        split = datasets.split("potsdam", "official")
        for tile in split.tiles:
            for kind in datasets.KINDS:
                found.path(kind, tile)
    except MobanetError as error:
        return _refused(error)
    finally:
        datasets.FOLDER = kept
    return Outcome("harmless", "still valid")


def _archive_case(base: Base, category: str, rng: np.random.Generator, room: Path) -> Outcome:
    bad, raw = room / "Potsdam.zip", room / "raw"
    mutate, _ = ARCHIVES[category]
    mutate(rng, base.archive, bad)
    try:
        tree = collect([bad], datasets.dataset("potsdam"), raw, exact=False)
    except MobanetError as error:
        outcome = _refused(error)
    else:
        outcome = _put_through(base, tree, room / "store", set(), False)
    strangers = {path.name for path in (*room.iterdir(), *room.parent.iterdir())} - {bad.name, "raw", "store", "room"}
    left = {name for name in strangers if not name.startswith(".store")}
    left |= {ABSOLUTE} if Path(ABSOLUTE).exists() else set()
    return Outcome("WRONG", f"files outside: {sorted(left)}") if left else outcome


def _put_through(base: Base, tree: RawTree, store: Path, touched: set[str], may_hide: bool) -> Outcome:
    """Check all tiles, preprocess the damaged one, and judge what came of it."""
    try:
        findings = examine(tree, (SPLIT,), True, CHECK, PREPROCESS.reader()).findings
        lines = [line for one in findings for line in one.sentence.splitlines()[1:]]
        if lines:
            return Outcome("WRONG", f"a finding of several lines: {lines}")
    except MobanetError as error:
        return _refused(error)
    said = ", ".join(sorted({one.code for one in findings}))
    try:
        make_store(PREPROCESS, ALONE, tree, store)
    except MobanetError as error:
        refused = _refused(error)
        return Outcome("found", f"{said}, and refused") if findings and refused.how == "refused" else refused
    clean, made = Store(base.store), Store(store)
    fault = _fault(made, clean, touched)
    if fault:
        return Outcome("WRONG", f"{fault} (check: {said or 'nothing'})")
    if findings:
        return Outcome("found", said)
    if _same(_tile(made), _tile(clean), tuple(LAYERS)):
        return Outcome("harmless", "the clean store")
    changed = made.manifest.tiles[0].sources != clean.manifest.tiles[0].sources
    return Outcome("hidden" if may_hide and changed else "WRONG", f"{sorted(touched)} differ and nothing is said")


SENSOR_FILES = {"rgb": "image", "dsm": "dsm"}


def _fault(made: Store, clean: Store, touched: set[str]) -> str | None:
    """What no store may hold, whatever went in."""
    tile, good = _tile(made), _tile(clean)
    classes = len(made.manifest.classes)
    for name, labels in (("label", tile.label_HW), ("eroded", tile.eroded_HW)):
        if not ((labels < classes) | (labels == IGNORE)).all():
            return f"{name} outside the classes"
    touched = touched | {SENSOR_FILES[sensor] for sensor in datasets.SENSORS if sensor not in tile.sensors}
    heights = tile.dsm_HW[np.isfinite(tile.dsm_HW)]
    if "dsm" not in tile.sensors:
        if not np.isnan(tile.dsm_HW).all():
            return "heights in a tile without a DSM"
    elif np.isinf(tile.dsm_HW).any() or not heights.size or heights.min() < CLIP[0] or heights.max() > CLIP[1]:
        return "heights outside their limits, or none"
    if tile.image_HWC.shape[:2] != good.image_HWC.shape[:2]:
        return None if "image" in touched else "another size"
    kept = tuple(kind for kind in LAYERS if kind not in touched)
    if "image" in touched:  # what the image lacks is ignored in the labels
        for kind in set(kept) & {"label", "eroded"}:
            one, other = (getattr(t, LAYERS[kind]) for t in (tile, good))
            if not ((one == other) | (one == IGNORE)).all():
                return f"{kind} changed, though it was not touched"
        kept = tuple(kind for kind in kept if kind == "dsm")
    return None if _same(tile, good, kept) else f"one of {kept} changed, though none was touched"


def _tile(store: Store) -> Tile:
    return store[next(entry for entry in store.manifest.tiles if entry.id == VICTIM)]


def _same(one: Tile, other: Tile, kinds: tuple[str, ...]) -> bool:
    pairs = [(getattr(one, LAYERS[kind]), getattr(other, LAYERS[kind])) for kind in kinds]
    return all(a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype == np.float32) for a, b in pairs)


def _refused(error: MobanetError) -> Outcome:
    sentence = str(error)
    return Outcome("WRONG" if "\n" in sentence or not sentence else "refused", sentence)
