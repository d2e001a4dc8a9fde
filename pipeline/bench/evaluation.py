"""`mobanet bench evaluate`: time of scoring tiles under all conditions, against the earlier way, in the same run.

In: a store, the network of params.yaml, with the weights of a model file if there is one. Out: a table or JSON on
stdout. The earlier way, `pass_per_condition`, passes over a tile once per condition and once for the gates, runs both
streams in each, and counts confusion matrices on the CPU. The new way is that of the evaluate step: one pass, also with
blocks and their intervals, boundary IoU and calibration. Both read the same tiles with the same windows; the ways
alternate in rounds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
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

    from components.common.data.store import Store, TileEntry
    from components.common.inference.modelfile import ModelFacts
    from components.common.inference.windows import Windows
    from components.common.scoring.counts import Confusion
    from components.evaluate.config import EvaluateConfig
    from model import MoBaNet


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
    """Measure how long evaluate scores the test tiles, against a pass per condition and one for the gates."""
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
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.step import SUBSET, windows_of
    from model import MoBaNet
    from pipeline.bench.pass_per_condition import fused_counts
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
        "earlier": lambda: fused_counts(earlier, data, entries, windows, device),
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
    score_intervals(found, entries, facts, config)
    total: Confusion = np.sum([of_tile["rgb+dsm"].confusions[GROUND_TRUTH] for of_tile in found], axis=0)
    return total


def _table(report: Report) -> Table:
    weights = "trained" if report.trained else "random"
    title = (
        f"{len(report.tiles)} test tiles, windows of {report.window_px} px every {report.stride_px} px, "
        f"{report.backbone} with {weights} weights, {report.device}, {report.threads} threads"
    )
    table = Table("way", title=title, title_justify="left")
    for column in ("seconds", "ratio"):
        table.add_column(column, justify="right")
    table.add_row("a pass per condition and for the gates", f"{report.earlier_s:.1f}", "1.00")
    table.add_row("one pass, with intervals, outlines, calibration", f"{report.seconds:.1f}", f"{report.ratio:.2f}")
    return table
