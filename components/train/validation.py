"""Score the network on the validation tiles: figures for the selection of a checkpoint, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from components.common.data.store import Store, Tile
from components.common.errors import NonFiniteError, StoreError
from components.common.inference.windows import Windows
from components.common.scoring import panels
from components.common.scoring.balance import Candidate, contenders, select
from components.common.scoring.conditions import (
    GROUND_TRUTH,
    Confusions,
    class_maps,
    conditions,
    confusions,
    tiles_by_condition,
)
from components.common.scoring.figures import figures
from components.train.config import ValidationConfig
from components.train.ranks.distributed import Ranks
from model import MoBaNet

FIGURE_NAMES = {"rgb+dsm": "miou_fused", "rgb": "miou_rgb", "dsm": "miou_dsm"}
"""Condition -> name of its mIoU in validation.csv."""


def validate(
    network: MoBaNet, store: Store, windows: Windows, config: ValidationConfig, ranks: Ranks
) -> dict[str, float] | None:
    """Score the network under every condition: both sensors, image only, DSM only.

    Ranks share the parts of the tiles, and every rank returns all figures. A network of one modality has no balance
    figures; its `expected_miou` is its mIoU. A tile counts under the conditions whose sensors it has.

    Returns:
        The mIoU of every condition; OA, mF1 and the IoU of the worst class of the first condition; all balance figures.
        Percent points. None if a rank was asked to stop.

    Raises:
        StoreError: no validation tile has all sensors of the network, so no checkpoint can be selected.
        NonFiniteError: on every rank, if a logit of any rank is NaN or infinite.
    """
    manifest = store.manifest
    _require_all_sensors(network, store)
    ranks.broadcast_buffers(network)
    counted: Confusions = {}
    error = None
    network.eval()
    try:
        counted = confusions(
            network,
            store,
            manifest.subset("val"),
            windows,
            ranks.device,
            truths=(GROUND_TRUTH,),
            wanted=_share(ranks),
        )
    except NonFiniteError as caught:
        error = caught
    network.train()
    ranks.raise_first(error)
    if ranks.any(ranks.stop.requested)[0]:
        return None
    totals = {name: ranks.all_reduce(torch.from_numpy(c[GROUND_TRUTH])).numpy() for name, c in counted.items()}
    found = figures(totals, manifest.classes, manifest.in_means, config.failure_probability)
    named = found.by_name() | {"expected_miou": found.expected_miou}
    return {FIGURE_NAMES[next(iter(totals))]: named.pop("miou"), **named}


def _require_all_sensors(network: MoBaNet, store: Store) -> None:
    wanted = conditions(network)[0]
    if wanted not in tiles_by_condition(network, store.manifest.subset("val")):
        words = {"rgb+dsm": "both an image and a DSM", "rgb": "an image", "dsm": "a DSM"}[wanted]
        raise StoreError(
            f"{store.path}: no validation tile has {words}, so the checkpoints of this network cannot be compared; "
            "choose another validation tile in the split, then run preprocess again"
        )


def _share(ranks: Ranks) -> Callable[[int], bool]:
    """A function that tells whether this rank does job number `n`; it returns False after a request to stop."""
    return lambda job: job % ranks.size == ranks.rank and not ranks.stop.requested


def candidate(row: Mapping[str, float]) -> Candidate:
    """The figures of a validation that selection compares."""
    fused = next(row[name] for name in FIGURE_NAMES.values() if name in row)
    return Candidate(step=int(row["step"]), fused_miou=fused, expected_miou=row["expected_miou"])


def selected_step(validations: list[dict[str, float]], guard: float) -> int:
    """Step of the best checkpoint so far; `guard` in percent points, see `ValidationConfig`."""
    return select([candidate(row) for row in validations], guard).step


def steps_in_play(validations: list[dict[str, float]], guard: float) -> set[int]:
    """The selected step, and the steps that selection may still fall back on."""
    return {c.step for c in contenders([candidate(row) for row in validations], guard)}


def pictures(
    network: MoBaNet, store: Store, windows: Windows, count: int, device: torch.device
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield (tile id, picture) for the first `count` validation tiles.

    A picture is uint8 RGB, `[H, W, 3]`. It shows the central crop: image, DSM, labels, one prediction per condition;
    a sensor that the tile lacks is left out.
    """
    network.eval()
    for entry in store.manifest.subset("val")[:count]:
        crop = _central(store[entry], 2 * windows.window_px)
        predicted = class_maps(network, crop, windows, device, f"the picture of tile {entry.id}")
        shown = [panels.image_picture(crop.image_HWC)] if "rgb" in crop.sensors else []
        shown += [panels.height_picture(crop.dsm_HW)] if "dsm" in crop.sensors else []
        labels = (crop.label_HW, *predicted.values())
        yield entry.id, panels.strip([*shown, *(panels.class_picture(x, store.manifest.palette) for x in labels)])
    network.train()


def _central(tile: Tile, side_px: int) -> Tile:
    height, width = tile.label_HW.shape
    top, left = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    part = (slice(top, top + side_px), slice(left, left + side_px))
    return replace(
        tile,
        image_HWC=tile.image_HWC[part],
        dsm_HW=tile.dsm_HW[part],
        label_HW=tile.label_HW[part],
        eroded_HW=tile.eroded_HW[part],
    )
