"""Which training tiles a network can learn from, and whether the tiles have the sensors that it needs.

A tile may lack its DSM or its image. A network for both sensors learns from every tile; one for a single sensor only
from those that have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.common.data.store import Sensor, Store, TileEntry
from components.common.errors import StoreError

WORDS = {"rgb": "an image", "dsm": "a DSM"}


def training_tiles(store: Store, modalities: Sequence[Sensor]) -> tuple[TileEntry, ...]:
    """The training tiles that have a sensor of the network, in the manifest's order."""
    return tuple(tile for tile in store.manifest.subset("train") if set(tile.sensors) & set(modalities))


def require_sensors(store: Store, modalities: Sequence[Sensor]) -> None:
    """Check before a training that it can learn every sensor, and that a validation tile has all of them.

    Args:
        store: the store; no pixel is read.
        modalities: the sensors of the network.

    Raises:
        StoreError: no training tile has one of them, or no validation tile has all of them.
    """
    train, val = (store.manifest.subset(name) for name in ("train", "val"))
    for sensor in modalities:
        if train and not any(sensor in tile.sensors for tile in train):
            remedy = "leave it out of model.modalities, or " if len(modalities) > 1 else ""
            raise StoreError(
                f"{store.path}: no training tile has {WORDS[sensor]}, which the network needs (model.modalities has "
                f"{sensor}); {remedy}add the files and run acquire again, or change data.split"
            )
    if val and not any(set(modalities) <= set(tile.sensors) for tile in val):
        needed = " and ".join(WORDS[sensor] for sensor in modalities)
        raise StoreError(
            f"{store.path}: no validation tile has {needed}, so no checkpoint can be selected; add the files and run "
            "acquire again, or change data.split"
        )
