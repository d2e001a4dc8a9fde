"""The store: tiles as Arrow files that are mapped into memory, and a manifest that describes them.

One file per tile, one uncompressed record batch, one row per image row:
    image   [W, bands] uint8     band order as in the manifest
    dsm     [W] float32          heights, scaled as in the manifest; NaN = not measured
    label   [W] uint8            classes 0..K-1, 255 = ignore (full ground truth)
    eroded  [W] uint8            the same without object boundaries (255 there)
A single batch is contiguous, so a column is one NumPy view `[H, W, ...]` onto the page cache: cutting a crop copies
only the crop, and any number of processes share the same pages.

A tile without an image holds zeros in its place, one without a DSM holds NaN; `TileEntry.sensors` says which it has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.common.data.datasets import SENSORS, Sensor, Subset
from components.common.errors import StoreError
from components.common.files import replacing, tuples

FORMAT = 3
"""Format version of a store and part of its data version.

It is increased when a reader of this version could misread an earlier store, and when a release computes other pixels
from the same sources and settings.
"""

MANIFEST, CROISSANT = "manifest.json", "croissant.json"
"""Facts about a store, and their description for other programs."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Pixels of one tile, all on one grid. From a store these are views onto mapped memory: do not write to them."""

    image_HWC: npt.NDArray[np.uint8]
    dsm_HW: npt.NDArray[np.float32]  # NaN = not measured
    label_HW: npt.NDArray[np.uint8]  # full ground truth, 255 = ignore
    eroded_HW: npt.NDArray[np.uint8]  # boundaries ignored too
    sensors: tuple[Sensor, ...] = SENSORS  # those that it has; an absent image is 0, an absent DSM NaN

    def __post_init__(self) -> None:
        shapes = {"image": self.image_HWC.shape[:2], "DSM": self.dsm_HW.shape, "label": self.label_HW.shape}
        if len({*shapes.values(), self.eroded_HW.shape}) != 1:
            raise StoreError(f"the layers of a tile differ in size: {shapes}, eroded label {self.eroded_HW.shape}")


HeightMethod = Literal["above-ground", "training-range", "per-tile"]
"""How heights are scaled, see `Heights`."""


@dataclass(frozen=True, slots=True)
class Heights:
    """How heights become the network's DSM: `(metres - offset_m) / scale_m`, limited to `clip`.

    `method` defines the metres: `training-range` absolute heights, offset and scale taken from the training
    tiles; `above-ground` heights above the local ground, which `ground_radius_m` defines; `per-tile` absolute heights,
    offset and scale of each tile its own (as in the released code, for comparison). With a DSM that is relative
    to the ground, as normalised ones are, metres are taken as they are.
    """

    method: str
    offset_m: float | None  # None: each tile its own
    scale_m: float | None
    ground_radius_m: float | None  # None: the method looks for no ground
    percentiles: tuple[float, float] | None  # per-tile: heights of the tile that become 0.0 and 1.0, percent
    clip: tuple[float, float]
    relative_to: Literal["datum", "ground"]  # what the heights of the DSM files are relative to


@dataclass(frozen=True, slots=True)
class TileEntry:
    """What the manifest records about one tile."""

    id: str  # "2_10"; Vaihingen: "11"
    subset: Subset
    file: str  # below the store
    height_px: int
    width_px: int
    crs: str
    transform: tuple[float, ...]  # a, b, c, d, e, f of the affine pixel -> map transform, metres
    class_px: tuple[int, ...]  # pixels per class in the full label
    ignored_px: int
    snapped_px: int  # label pixels whose colour was not exactly that of a class
    unknown_px: int  # label pixels of no class; ignored
    dsm_missing_share: float  # 0..1, not measured
    notes: tuple[str, ...]  # what the reader did or noticed: padded, warped, converted, ignored
    sources: dict[str, str]  # raw file -> sha256
    sensors: tuple[Sensor, ...] = SENSORS  # those that the tile has; in the order of SENSORS


@dataclass(frozen=True, slots=True)
class Manifest:
    """Describes a store: enough to train, evaluate and repeat, and to distinguish data versions."""

    dataset: str
    source: str  # acquire's source: sample | isprs | folder
    split: str
    classes: tuple[str, ...]
    in_means: tuple[bool, ...]  # which classes count in mIoU and mF1
    palette: tuple[tuple[int, int, int], ...]
    bands: tuple[str, ...]
    image_range: tuple[float, float]  # pixel values of the files that became 0 and 255
    image_mean: tuple[float, ...]  # per band, of the image / 255
    image_std: tuple[float, ...]
    gsd_m: float
    heights: Heights
    acknowledgement: str
    tool_version: str
    tiles: tuple[TileEntry, ...]
    accepted: Mapping[str, Any] = field(default_factory=dict)  # findings that the user overruled: code -> tiles or all
    reading: Mapping[str, Any] = field(default_factory=dict)  # other settings that shape pixels; empty in older stores

    @property
    def data_md5(self) -> str:
        """The data version: md5 of the sources, the settings and what was made of them, as canonical JSON.

        The version of the tool, notes and the acknowledgement are left out: a release can change them while the data
        stay the same.
        """
        content = {"format": FORMAT} | _as_json(self)
        for key in ("tool_version", "acknowledgement"):
            del content[key]
        content["tiles"] = [{key: value for key, value in tile.items() if key != "notes"} for tile in content["tiles"]]
        return _md5(content)

    @property
    def raw_md5(self) -> str:
        """The raw data version: md5 of what two evaluations must share to be compared, as canonical JSON.

        It covers the raw files, the split and how labels are read. Scaling of heights and image is left out: it
        belongs to the model, which needs inputs made by its own facts.
        """
        shared = ("dataset", "source", "split", "classes", "in_means", "palette", "accepted")
        content = {"format": FORMAT} | {key: getattr(self, key) for key in shared}
        content["reading"] = {key: value for key, value in self.reading.items() if key in LABEL_READING}
        content["tiles"] = [(tile.id, tile.subset, tile.sources) for tile in self.tiles]
        return _md5(content)

    def subset(self, subset: Subset) -> tuple[TileEntry, ...]:
        """The tiles of one subset, in the manifest's order."""
        return tuple(tile for tile in self.tiles if tile.subset == subset)


def _as_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as a mapping; a tile's sensors are left out if it has both, as in stores of earlier releases."""
    content = asdict(manifest)
    for tile in content["tiles"]:
        if tile["sensors"] == SENSORS:
            del tile["sensors"]
    return content


LABEL_READING = ("label", "eroded", "labels", "values", "crs", "max_pad_px")
"""Keys of `Manifest.reading` that shape labels and the grid of a tile."""


def _md5(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


SCHEMA_FIELDS = ("image", "dsm", "label", "eroded")


def write_tile(path: Path, tile: Tile) -> None:
    """Write one tile atomically."""
    layers = (tile.image_HWC, tile.dsm_HW, tile.label_HW, tile.eroded_HW)
    columns = [pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(layer)) for layer in layers]
    batch = pa.record_batch(columns, names=SCHEMA_FIELDS)
    with replacing(path) as draft, pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def map_tile(path: Path) -> Tile:
    """Map one tile into memory; nothing is read until it is looked at.

    Raises:
        StoreError: the file is missing, truncated, or not of this format.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        image, dsm, label, eroded = (batch.column(name).to_numpy_ndarray() for name in SCHEMA_FIELDS)
        return Tile(image, dsm, label, eroded)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such tile in the store; run the preprocess step again") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{path}: not a readable tile ({reason}); run the preprocess step again") from None


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Write the manifest; it comes last, so a store without one is incomplete."""
    with replacing(store / MANIFEST) as draft:
        draft.write_text(json.dumps({"format": FORMAT} | _as_json(manifest), indent=1, sort_keys=True) + "\n")


class Store:
    """A store on disk. A tile is mapped into memory when it is first used, and stays mapped."""

    def __init__(self, path: Path) -> None:
        """Open a store.

        Raises:
            StoreError: there is no store, it is incomplete, or another version wrote it.
        """
        self.path = path
        self.manifest = read_manifest(path)
        self.data_md5 = self.manifest.data_md5
        self._mapped: dict[str, Tile] = {}

    def __getitem__(self, entry: TileEntry) -> Tile:
        """The pixels of one tile, as views."""
        if entry.id not in self._mapped:
            tile = map_tile(self.path / entry.file)
            if tile.label_HW.shape != (entry.height_px, entry.width_px):
                raise StoreError(
                    f"{self.path / entry.file}: not the size of the manifest; run the preprocess step again"
                )
            self._mapped[entry.id] = replace(tile, sensors=entry.sensors)
        return self._mapped[entry.id]

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: it maps the tiles there, instead of getting their pixels."""
        return self.__dict__ | {"_mapped": {}}


def read_manifest(store: Path) -> Manifest:
    """The manifest of a store.

    Raises:
        StoreError: it is missing, damaged, or of another format.
    """
    path = store / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise StoreError(
                f"{path}: written by {content.get('tool_version')} in another format; run preprocess again"
            )
        heights = Heights(**tuples(content.pop("heights")))
        tiles = tuple(TileEntry(**tuples(tile)) for tile in content.pop("tiles"))
        return Manifest(**tuples(content), heights=heights, tiles=tiles)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run the preprocess step first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); run the preprocess step again") from None
