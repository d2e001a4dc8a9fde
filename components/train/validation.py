"""Score the network on the validation tiles: figures for the selection of a checkpoint, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from components.common.data.store import Store, Tile
from components.common.errors import NonFiniteError
from components.common.inference.windows import Windows
from components.common.scoring import panels
from components.common.scoring.balance import Candidate, contenders, select
from components.common.scoring.conditions import GROUND_TRUTH, Confusions, class_map, conditions, confusions
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

    Ranks share the tiles and conditions, and every rank returns all figures. A network of one modality has no balance
    figures; its `expected_miou` is its mIoU.

    Returns:
        The mIoU of every condition; OA, mF1 and the IoU of the worst class of the first condition; all balance figures.
        Percent points. None if a rank was asked to stop.

    Raises:
        NonFiniteError: on every rank, if a logit of any rank is NaN or infinite.
    """
    manifest = store.manifest
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

    A picture is uint8 RGB, `[H, W, 3]`. It shows the central crop: image, DSM, labels, one prediction per condition.
    """
    network.eval()
    for entry in store.manifest.subset("val")[:count]:
        crop = _central(store[entry], 2 * windows.window_px)
        k = network.config.num_classes
        name = f"the picture of tile {entry.id}"
        predicted = [class_map(crop, predict, k, windows, device, name) for predict in conditions(network).values()]
        coloured = [panels.class_picture(classes, store.manifest.palette) for classes in (crop.label_HW, *predicted)]
        image, heights = panels.image_picture(crop.image_HWC), panels.height_picture(crop.dsm_HW)
        yield entry.id, panels.strip([image, heights, *coloured])
    network.train()


def _central(tile: Tile, side_px: int) -> Tile:
    height, width = tile.label_HW.shape
    top, left = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    part = (slice(top, top + side_px), slice(left, left + side_px))
    return Tile(tile.image_HWC[part], tile.dsm_HW[part], tile.label_HW[part], tile.eroded_HW[part])
