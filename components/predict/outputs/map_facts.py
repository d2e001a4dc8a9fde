"""What a map file states about its origin, in its tags: model, inputs, settings and position, but no path and no time.

Equal facts mean equal pixels. They therefore identify interrupted work, and parts that belong together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rasterio import Affine
from rasterio.crs import CRS

from components.common.errors import DataError
from components.common.rasterfiles.grids import Grid
from components.common.tracking.provenance import DISTRIBUTION, tool_version
from components.predict.outputs.parts import Part, Region, part_of

PREFIX = "MOBANET_"

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFacts:
    """Where a map comes from, and what it covers."""

    model: str  # name: never a path
    model_version: str | None  # in the registry
    model_sha256: str
    data_md5: str  # data version of the training
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    sensors: tuple[str, ...]  # those that were given: image, dsm
    inputs: str  # fingerprint of the rasters
    settings: Mapping[str, Any]  # whatever changes a pixel, as JSON; window_px and stride_px are needed here
    grid: Grid  # of the raster
    region: Region  # of the complete map
    part: Part | None  # None: the complete map
    layers: tuple[str, ...]  # of `map_layers.LAYERS`

    @property
    def here(self) -> Region:
        """The region that the files of this map cover."""
        return self.part.region(self.region) if self.part else self.region

    @property
    def complete(self) -> MapFacts:
        """The facts of the complete map that a part belongs to."""
        return replace(self, part=None)

    def identity(self) -> dict[str, Any]:
        """What parts of a map have in common, and a command with the work that it continues; JSON content."""
        return {
            "model": [self.model, self.model_version, self.model_sha256],
            "inputs": [self.inputs, list(self.sensors), _grid_content(self.grid)],
            "settings": json.loads(_text(self.settings)),
            "region": [*self.region.limits, str(self.part)],
            "layers": list(self.layers),
        }

    def tags(self) -> dict[str, str]:
        """Tags of the files; those of a part also state what `from_tags` needs."""
        stated = {
            "MODEL": self.model,
            "MODEL_VERSION": self.model_version,
            "MODEL_SHA256": self.model_sha256,
            "DATA_MD5": self.data_md5,
            "CLASSES": _text(dict(zip(self.classes, map(list, self.palette), strict=True))),
            "SENSORS": " ".join(self.sensors),
            "INPUTS": self.inputs,
            "SETTINGS": _text(self.settings),
        }
        if self.part is not None:
            stated |= {
                "PART": str(self.part),
                "REGION": _text(self.region.limits),
                "GRID": _text(_grid_content(self.grid)),
                "LAYERS": " ".join(self.layers),
            }
        tags = {PREFIX + name: text for name, text in stated.items() if text is not None}
        return tags | {"TIFFTAG_SOFTWARE": f"{DISTRIBUTION} {tool_version()}"}

    @classmethod
    def from_tags(cls, path: Path, tags: Mapping[str, str]) -> MapFacts:
        """The facts of a part.

        Raises:
            DataError: the tags are not those of a part.
        """
        try:
            stated = {name.removeprefix(PREFIX): text for name, text in tags.items() if name.startswith(PREFIX)}
            region, colours = Region.of(json.loads(stated["REGION"])), json.loads(stated["CLASSES"])
            return cls(
                model=stated["MODEL"],
                model_version=stated.get("MODEL_VERSION"),
                model_sha256=stated["MODEL_SHA256"],
                data_md5=stated["DATA_MD5"],
                classes=tuple(colours),
                palette=tuple(tuple(colour) for colour in colours.values()),
                sensors=tuple(stated["SENSORS"].split()),
                inputs=stated["INPUTS"],
                settings=json.loads(stated["SETTINGS"]),
                grid=_grid(json.loads(stated["GRID"])),
                region=region,
                part=part_of(stated["PART"], region),
                layers=tuple(stated["LAYERS"].split()),
            )
        except (KeyError, ValueError, TypeError, IndexError):
            raise DataError(f"{path}: not a part of a map; use files that mobanet predict --part I/N wrote") from None


def _text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=True, separators=(",", ":"))


def _grid_content(grid: Grid) -> list[Any]:
    """A grid as JSON content; numbers and the reference system are exact."""
    transform = None if grid.transform is None else list(grid.transform[:6])
    return [grid.height_px, grid.width_px, transform, None if grid.crs is None else grid.crs.to_wkt()]


def _grid(content: list[Any]) -> Grid:
    height_px, width_px, transform, wkt = content
    return Grid(height_px, width_px, Affine(*transform) if transform else None, CRS.from_wkt(wkt) if wkt else None)
