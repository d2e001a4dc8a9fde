"""Which tiles have which sensor: a tile may lack its DSM or its image, and a file that is missing must not stay unseen.

In: the facts of all tiles. Out: counts per subset for the report, and findings for every subset that lacks something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from components.check.config import Subject
from components.check.findings import Finding, finding
from components.common.data.datasets import SENSORS, FileKind, Sensor
from components.common.data.rawtree import sensors_of

LAYER: Mapping[Sensor, tuple[FileKind, str]] = {"rgb": ("image", "an image"), "dsm": ("dsm", "a DSM")}
"""The file of a sensor, and what a sentence calls it."""

SHOWN = 5
"""Tiles listed in a sentence."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Sensors of the tiles of one subset; tiles without any are left out."""

    subset: str  # train | val | test | all: no split was chosen
    sensors: Mapping[str, tuple[Sensor, ...]]  # tile -> what it has

    def having(self, *wanted: Sensor) -> list[str]:
        """The tiles that have all of these sensors."""
        return [tile for tile, there in self.sensors.items() if set(wanted) <= set(there)]

    def lacking(self, sensor: Sensor) -> list[str]:
        """The tiles that do not have a sensor."""
        return [tile for tile, there in self.sensors.items() if sensor not in there]

    @property
    def counts(self) -> dict[str, int]:
        """Number of tiles, of those with each sensor, and of those with both."""
        each = {str(LAYER[sensor][0]): len(self.having(sensor)) for sensor in SENSORS}
        return {"tiles": len(self.sensors), **each, "both": len(self.having(*SENSORS))}


def coverage(subject: Subject) -> list[Coverage]:
    """The sensors of every subset of the chosen split, or of all tiles if no split was chosen."""
    found: dict[str, dict[str, tuple[Sensor, ...]]] = {}
    if subject.chosen:
        found = {name: {} for name in ("train", "val", "test") if getattr(subject.splits[0], name)}
    for tile, facts in subject.tiles.items():
        if there := sensors_of(subject.dataset, facts.places):
            found.setdefault(subject.subset(tile) or "all", {})[tile] = there
    return [Coverage(subset, tiles) for subset, tiles in found.items()]


def unpaired(subject: Subject) -> Iterator[Finding]:
    """Subsets in which some tiles, or all, lack a sensor."""
    for part in coverage(subject):
        where = "" if part.subset == "all" else f"{part.subset}: "
        for sensor in SENSORS:
            kind, words = LAYER[sensor]
            gone, all_tiles = part.lacking(sensor), len(part.sensors)
            if gone and len(gone) == all_tiles:
                yield finding("sensor-absent", f"{where}none of the {all_tiles} tiles has {words}")
            elif gone:
                sentence = (
                    f"{where}{all_tiles - len(gone)} of {all_tiles} tiles have {words}; without: {_listed(gone)} "
                    f"(looked for {subject.dataset.path(kind, gone[0])})"
                )
                yield finding("unpaired", sentence)
        if all(part.having(sensor) for sensor in SENSORS) and not part.having(*SENSORS):
            yield finding("sensor-absent", f"{where}none of the {len(part.sensors)} tiles has both sensors")


def _listed(tiles: list[str]) -> str:
    more = f" and {len(tiles) - SHOWN} more" if len(tiles) > SHOWN else ""
    return ", ".join(tiles[:SHOWN]) + more
