"""`mobanet bench evaluate`: time of scoring tiles under all conditions, against the earlier way, in the same run.

In: a store, the network of params.yaml, with the weights of a model file if there is one. Out: a table or JSON on
stdout. The earlier way passes over a tile once per condition, runs both streams in each, fills an absent sensor with 0,
and counts confusion matrices. The new way is that of the evaluate step: one pass, also with blocks and their intervals,
boundary IoU and calibration. Both read the same tiles with the same windows; the ways alternate in rounds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from components.common.errors import ParamsError
from components.common.params import section
from components.common.progress import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from components.common.data.store import Store, Tile, TileEntry
    from components.common.inference.modelfile import ModelFacts
    from components.common.inference.windows import Windows
    from components.common.scoring.counts import Confusion
    from components.evaluate.step import EvaluateConfig
    from model import MoBaNet

CONDITIONS = ("rgb+dsm", "rgb", "dsm")


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the benchmark, as printed by `--json`."""

    device: str
    torch: str
    threads: int  # of torch
    backbone: str
    trained: bool  # False: random weights
    tiles: tuple[str, ...]
    window_px: int
    stride_px: int
    rounds: int
    earlier_s: float  # fastest round
    seconds: float  # fastest round
    ratio: float  # seconds / earlier_s
    same_px: float  # share of the pixels that both ways give the same counts, fused condition, 0..1


def bench(
    model: Annotated[
        Path, typer.Option(metavar="MODEL", help="A .safetensors file; random weights if it does not exist.")
    ] = Path("models/best.safetensors"),
    store: Annotated[Path, typer.Option(metavar="DIR", help="Store whose test tiles are scored.")] = Path("data/store"),
    params: Annotated[
        Path, typer.Option(metavar="FILE", help="File with the sections `evaluate`, `model` and `train`.")
    ] = Path("params.yaml"),
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the fastest counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how long evaluate scores the test tiles, against one pass per condition in which both streams run."""
    report = measure(model, store, params, rounds)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        Console().print(_table(report))


def measure(model: Path, store: Path, params: Path, rounds: int) -> Report:
    """Score the test tiles in both ways; arguments as in `bench`.

    Raises:
        ParamsError: a section is missing or invalid.
        StoreError: there is no store.
        WeightsError: the model cannot be read.
    """
    import torch

    from components.common.data.store import Store
    from components.common.inference.precision import training_precision
    from components.evaluate.step import SUBSET, EvaluateConfig, windows_of
    from model import MoBaNet
    from pipeline.bench.train import device_name

    config, data = section(params, "evaluate", EvaluateConfig), Store(store)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, facts = _network(model, data, params)
    zero = dataclasses.replace(network.config, missing="zero")
    earlier = MoBaNet(zero).eval().to(device)
    earlier.load_state_dict(network.state_dict())
    entries, windows = data.manifest.subset(SUBSET), windows_of(config, network, facts)
    entries = tuple(entry for entry in entries if len(entry.sensors) == 2)
    if len(network.config.modalities) == 1 or not entries:
        raise ParamsError("bench evaluate compares sensors; give a model of both and a test tile that has both")
    ways: dict[str, Callable[[], Confusion]] = {
        "earlier": lambda: _earlier(earlier, data, entries, windows, device),
        "now": lambda: _now(network, data, entries, windows, device, facts, config),
    }
    best, counts = dict.fromkeys(ways, math.inf), {}
    with training_precision(network.to(device), facts, device), training_precision(earlier, facts, device):
        for _ in track(range(rounds), "rounds"):
            for way, score in ways.items():
                start = time.perf_counter()
                counts[way] = score()
                best[way] = min(best[way], time.perf_counter() - start)
    return Report(
        device=device_name(device),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        backbone=network.config.backbone,
        trained=model.is_file(),
        tiles=tuple(entry.id for entry in entries),
        window_px=windows.window_px,
        stride_px=windows.stride_px,
        rounds=rounds,
        earlier_s=best["earlier"],
        seconds=best["now"],
        ratio=best["now"] / best["earlier"],
        same_px=1 - float(abs(counts["now"] - counts["earlier"]).sum()) / 2 / float(counts["now"].sum()),
    )


def _network(model: Path, data: Store, params: Path) -> tuple[MoBaNet, ModelFacts]:
    """The trained network, or the network of params.yaml with random weights."""
    import torch

    from components.common.inference.modelfile import load_model
    from components.train.config import ModelParams, TrainConfig
    from model import MoBaNet
    from model.inputs import padded_side
    from pipeline.bench.predict_memory import facts_of_sample

    if model.is_file():
        return load_model(model)
    options, train = section(params, "model", ModelParams), section(params, "train", TrainConfig)
    torch.manual_seed(0)
    network = MoBaNet(options.network(len(data.manifest.classes), len(data.manifest.bands))).eval()
    return network, facts_of_sample(network.config, padded_side(train.crop_px, network.patch_size))


def _now(
    network: MoBaNet,
    data: Store,
    entries: tuple[TileEntry, ...],
    windows: Windows,
    device: torch.device,
    facts: ModelFacts,
    config: EvaluateConfig,
) -> Confusion:
    from components.common.scoring.boundary import WIDTH_PX
    from components.common.scoring.conditions import GROUND_TRUTH
    from components.common.scoring.gates import GateMap
    from components.common.scoring.tile_counts import Counted, score_tile
    from components.evaluate.trust import score_intervals

    counted = Counted(block_px=config.intervals.block_px, boundary_px=WIDTH_PX, temperature=facts.temperature or {})
    found = [
        score_tile(network, data[entry], windows, device, counted, gates=GateMap(), name=f"tile {entry.id}")
        for entry in entries
    ]
    score_intervals(
        found,
        entries,
        facts,
        config.failure_probability,
        ground_truth=GROUND_TRUTH,
        level=config.intervals.level,
        samples=config.intervals.samples,
        block_px=config.intervals.block_px,
    )
    total: Confusion = np.sum([of_tile[CONDITIONS[0]].confusions[GROUND_TRUTH] for of_tile in found], axis=0)
    return total


def _earlier(
    network: MoBaNet, data: Store, entries: tuple[TileEntry, ...], windows: Windows, device: torch.device
) -> Confusion:
    """Confusion matrices of both ground truths, a pass per condition; the one that both ways share."""
    import torch

    from components.common.scoring.counts import Counter
    from components.common.scoring.gates import GateMap

    fused = Counter(network.config.num_classes)
    for entry in entries:
        tile = data[entry]
        for condition in CONDITIONS:
            gates = GateMap()
            counters = [fused if condition == CONDITIONS[0] else Counter(network.config.num_classes)]
            counters.append(Counter(network.config.num_classes))
            for row, classes_hW, gates_GhW in _bands(network, tile, condition, windows, device):
                rows = slice(row, row + len(classes_hW))
                for counter, labels_HW in zip(counters, (tile.eroded_HW, tile.label_HW), strict=True):
                    counter.add(torch.tensor(labels_HW[rows], device=device), classes_hW)
                gates.add(gates_GhW)
    return fused.matrix()


def _bands(
    network: MoBaNet, tile: Tile, condition: str, windows: Windows, device: torch.device
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First row, classes and gates of the bands of a tile under one condition; a batch is within a row of windows."""
    import torch

    height, width = tile.label_HW.shape
    side, k, with_gates = windows.window_px, network.config.num_classes, condition == CONDITIONS[0]
    tops, lefts = ([*range(0, max(0, size - side), windows.stride_px), max(0, size - side)] for size in (height, width))
    over_H, over_W = (torch.zeros(size, device=device) for size in (height, width))
    for over, starts in ((over_H, tops), (over_W, lefts)):
        for start in starts:
            over[start : start + side] += 1
    total = torch.zeros(k + with_gates, side, width, device=device)
    for top, end in pairwise([*tops, height]):
        for first in range(0, len(lefts), windows.batch_size):
            chosen = lefts[first : first + windows.batch_size]
            cuts = [(slice(top, top + side), slice(left, left + side)) for left in chosen]
            for left, maps in zip(chosen, _maps(network, tile, condition, windows, device, cuts), strict=True):
                total[:, : maps.shape[1], left : left + maps.shape[2]] += maps
        done = end - top
        mean = total[:, :done] / (over_H[top:end, None] * over_W)
        yield top, mean[:k].max(0).indices.to(torch.uint8), mean[k:]
        total[:, : side - done] = total[:, done:].clone()
        total[:, side - done :] = 0


def _maps(
    network: MoBaNet,
    tile: Tile,
    condition: str,
    windows: Windows,
    device: torch.device,
    cuts: list[tuple[slice, slice]],
) -> Tensor:
    """Logits of a batch of windows, and the mean gate under the condition with both sensors."""
    import torch
    from torch.nn.functional import interpolate

    from components.common.scoring.gates import GateMap, has_gates
    from model.inputs import normalise, pad_to_multiple

    image_BHWC, dsm_BHW = (np.stack([layer[cut] for cut in cuts]) for layer in (tile.image_HWC, tile.dsm_HW))
    h, w = dsm_BHW.shape[1:]
    image, dsm = torch.from_numpy(image_BHWC).to(device).movedim(-1, 1), torch.from_numpy(dsm_BHW).to(device)[:, None]
    inputs = normalise(image, dsm, windows.image_mean, windows.image_std)
    rgb, heights = (pad_to_multiple(x, windows.patch_size) for x in inputs)
    with torch.inference_mode():
        if condition != CONDITIONS[0]:
            return network(*((rgb, None) if condition == "rgb" else (None, heights)))[..., :h, :w].float()
        if not has_gates(network):
            logits = network(rgb, heights)
            return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)[..., :h, :w].float()
        logits, gates = network.forward_with_gates(rgb, heights)
        gate = interpolate(GateMap().maps(gates).float(), size=logits.shape[-2:])
        return torch.cat([logits, gate], dim=1)[..., :h, :w].float()


def _table(report: Report) -> Table:
    weights = "trained" if report.trained else "random"
    title = (
        f"{len(report.tiles)} test tiles, windows of {report.window_px} px every {report.stride_px} px, "
        f"{report.backbone} with {weights} weights, {report.device}, {report.threads} threads"
    )
    table = Table("way", title=title, title_justify="left")
    for column in ("seconds", "ratio"):
        table.add_column(column, justify="right")
    table.add_row("a pass per condition, both streams", f"{report.earlier_s:.1f}", "1.00")
    table.add_row("one pass, with intervals, outlines, calibration", f"{report.seconds:.1f}", f"{report.ratio:.2f}")
    return table
