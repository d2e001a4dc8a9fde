"""A made-up evaluation with everything that a report can show, for tests of the page and a look at it."""

from __future__ import annotations

import numpy as np

from components.common.data.datasets import dataset
from components.common.data.store import Heights, Manifest, Tile
from components.common.inference.modelfile import InitialWeights
from components.common.scoring.balance import balance, majority_miou
from components.common.scoring.metrics import Scores, scores
from components.common.uncertainty.calibration import Bin, Reliability
from components.common.uncertainty.intervals import Difference, Intervals
from components.evaluate.pictures import gate_reach, panels
from components.evaluate.record import Boundary, Degraded, Evaluation, Protocol, TrainedModel
from components.evaluate.report import render
from components.evaluate.tile_results import Thumbnails
from components.evaluate.worst_crops import Crop, worst_crops, worst_of

CLASSES = dataset("sample").classes
NAMES, COUNTED = tuple(c.name for c in CLASSES), tuple(c.in_means for c in CLASSES)
HEIGHTS = Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum")
DEGRADED = (
    ("noise", "rgb", "grey values", (5, 10, 20), 2.0),
    ("noise", "dsm", "m", (0.1, 0.25, 0.5, 1), 3.0),
    ("shift", "dsm", "px", (1, 2, 4, 8), 1.0),
    ("lost band", "rgb", None, ("red", "green", "blue"), 8.0),
)
"""Kind, sensor, unit, levels, points that each level costs."""

WRONG = {"rgb+dsm": 0.06, "rgb": 0.3, "dsm": 0.4}
"""Condition -> share of the blocks of pixels that get a random class."""


def scene(seed: int, side_px: int = 384, block_px: int = 24) -> Tile:
    """A town of rectangles: roofs are red and high, trees are dark green and high, and so on."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(6, (side_px // block_px + 1,) * 2, p=[0.32, 0.25, 0.2, 0.15, 0.05, 0.03])
    label_HW = blocks.repeat(block_px, 0).repeat(block_px, 1)[:side_px, :side_px].astype(np.uint8)
    colours = np.array([[130, 130, 135], [150, 70, 60], [140, 170, 90], [40, 80, 40], [60, 60, 170], [160, 150, 120]])
    heights = np.array([0.0, 0.9, 0.05, 0.6, 0.15, 0.1])
    image = colours[label_HW] + rng.normal(0, 12, (side_px, side_px, 3))
    dsm_HW = (heights[label_HW] + rng.normal(0, 0.03, label_HW.shape)).astype(np.float32)
    dsm_HW[: block_px * 2, : block_px * 2] = np.nan
    edges = (np.arange(side_px) % block_px) < 2
    eroded_HW = np.where(edges[:, None] | edges[None, :], 255, label_HW).astype(np.uint8)
    return Tile(image.clip(0, 255).astype(np.uint8), dsm_HW, label_HW, eroded_HW)


def predictions(tile: Tile, seed: int) -> dict[str, np.ndarray]:
    """A class map per condition, with blocks of errors."""
    rng = np.random.default_rng(1000 + seed)
    shape = tuple(side // 8 for side in tile.label_HW.shape)
    found = {}
    for condition, share in WRONG.items():
        wrong, other = (
            np.kron(a, np.ones((8, 8), int)) for a in (rng.random(shape) < share, rng.integers(0, 5, shape))
        )
        found[condition] = np.where(wrong > 0, other, tile.label_HW).astype(np.uint8)
    return found


def example(tiles: int = 2, side_px: int = 384) -> tuple[Evaluation, list[Thumbnails], list[Crop], Manifest]:
    """A record, thumbnails, the worst crops and a manifest; the last of several tiles has no DSM."""
    counts = {condition: np.zeros((6, 6), np.int64) for condition in WRONG}
    thumbnails, crops = [], []
    for number in range(tiles):
        name, tile = f"5_{10 + number}", scene(number, side_px)
        predicted = predictions(tile, number)
        unpaired = tiles > 1 and number == tiles - 1
        shown = {"rgb": predicted["rgb"]} if unpaired else predicted
        scored = tile.eroded_HW < 255
        for condition, classes_HW in shown.items():
            pairs = tile.eroded_HW[scored].astype(np.int64) * 6 + classes_HW[scored]
            counts[condition] += np.bincount(pairs, minlength=36).reshape(6, 6)
        gate_hw = np.clip(0.5 + (tile.dsm_HW - 0.4) / 4, 0, 1)
        gate_hw = None if unpaired else np.nan_to_num(gate_hw, nan=0.7).astype(np.float32)
        dsm_hw = None if unpaired else tile.dsm_HW
        thumbnails.append(Thumbnails(name, tile.image_HWC, dsm_hw, tile.label_HW, shown, gate_hw))
        if not unpaired:
            crops.append(worst_crops(name, "rgb+dsm", tile, predicted["rgb+dsm"], 128))
    ids = tuple(t.tile for t in thumbnails)
    return _record(counts, ids, tiles > 1), thumbnails, list(worst_of(crops, 4)), _manifest()


def page(tiles: int = 2, side_px: int = 384) -> str:
    """The report of the example."""
    record, thumbnails, crops, manifest = example(tiles, side_px)
    reach = gate_reach(thumbnails)
    pictures = {t.tile: panels(t, manifest.palette, reach) for t in thumbnails}
    return render(record, pictures, manifest, reach, crops)


def _record(counts: dict[str, np.ndarray], tiles: tuple[str, ...], unpaired: bool) -> Evaluation:
    found = {condition: scores(matrix, NAMES, COUNTED) for condition, matrix in counts.items()}
    v = {condition: s.miou for condition, s in found.items()}
    paired = tiles[:-1] if unpaired else tiles
    return Evaluation(
        format=2,
        scores={"eroded": found, "full": found},
        balance=balance(v["rgb+dsm"], v["rgb"], v["dsm"], majority_miou(counts["rgb+dsm"], COUNTED), 0.1),
        confusion={"eroded": {c: m.tolist() for c, m in counts.items()}},
        protocol=_protocol(tiles, {"rgb+dsm": paired, "rgb": tiles, "dsm": paired}),
        warnings=("The data is a made-up example.",),
        intervals=_intervals(found, v),
        boundary={c: Boundary(3, s.miou - 20, dict.fromkeys(NAMES, 61.5)) for c, s in found.items()},
        calibration={condition: Reliability(1.43, 0.061, 0.018, _bins()) for condition in found},
        robustness=tuple(
            Degraded(kind, sensor, level, unit, v["rgb+dsm"] - drop * k, -drop * k)
            for kind, sensor, unit, levels, drop in DEGRADED
            for k, level in enumerate(levels)
        ),
    )


def _intervals(found: dict[str, Scores], v: dict[str, float]) -> Intervals:
    limits = {f"{f}/{c}": (getattr(s, f) - 2.1, getattr(s, f) + 1.7) for c, s in found.items() for f in ("miou", "oa")}
    limits |= {f"iou/{c}/{n}": (p.iou - 4, p.iou + 3) for c, s in found.items() for n, p in s.per_class.items()}
    pairs = (("rgb+dsm", "rgb"), ("rgb+dsm", "dsm"), ("rgb", "dsm"))
    differences = {f"{a} - {b}": Difference(v[a] - v[b], v[a] - v[b] - 3, v[a] - v[b] + 3) for a, b in pairs}
    return Intervals(0.95, 256, 18, 11.5, 1000, limits | {"expected_miou": (71.0, 74.5)}, differences)


def _bins() -> tuple[Bin, ...]:
    middles = [(b + 0.5) / 15 for b in range(15)]
    total = sum(middle**4 for middle in middles[3:])
    used = (Bin(middle, middle - 0.04, middle**4 / total) for middle in middles[3:])
    return (*(Bin(None, None, 0.0) for _ in range(3)), *used)


def _protocol(tiles: tuple[str, ...], tiles_by_condition: dict[str, tuple[str, ...]]) -> Protocol:
    version = {"data_md5": "b" * 32, "git_commit": "c" * 40, "tool_version": "0.0.0"}
    model = TrainedModel(
        sha256="a" * 64,
        backbone="vit_tiny_patch16_224",
        modalities=("rgb", "dsm"),
        step=300,
        seed=1,
        dataset="sample",
        source="sample",
        split="sample",
        validation={"miou_fused": 80.1},
        initial_weights=InitialWeights("none", None, "none"),
        mlflow_run_id=None,
        **version,
    )
    return Protocol(
        dataset="sample",
        source="sample",
        split="sample",
        subset="test",
        tiles=tiles,
        tiles_by_condition=tiles_by_condition,
        mean_classes=tuple(n for n, counts in zip(NAMES, COUNTED, strict=True) if counts),
        classes=NAMES,
        ground_truth="eroded",
        bands=("red", "green", "blue"),
        gsd_m=0.05,
        heights=HEIGHTS,
        missing_modality="left out",
        window_px=128,
        stride_px=96,
        overlap="mean of the logits of all windows over a pixel",
        precision="float32",
        device="cpu",
        raw_md5="d" * 32,
        model=model,
        **version,
    )


def _manifest() -> Manifest:
    return Manifest(
        dataset="sample",
        source="sample",
        split="sample",
        classes=NAMES,
        in_means=COUNTED,
        palette=tuple(c.rgb for c in CLASSES),
        bands=("red", "green", "blue"),
        image_range=(0.0, 255.0),
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.25, 0.25, 0.25),
        gsd_m=0.05,
        heights=HEIGHTS,
        acknowledgement="A made-up example.",
        tool_version="0.0.0",
        tiles=(),
    )
