"""`mobanet bench export`: latency and throughput of every file of a package, against the network in eager torch.

In: a package. Out: a table or JSON on stdout. Every way computes what its file gives from the same pixels as stored:
the crops of the package. Latency is that of one window on one thread; windows per second are those of a batch on all
threads. The ways alternate in rounds, and the fastest round of each counts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.common.progress import track

if TYPE_CHECKING:
    from components.common.inference.modelfile import ModelFacts
    from components.export.parity.parity_cases import Inputs

EAGER = "eager"
"""Name of the network in eager torch, float32, which the others are compared with."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to compute a window."""

    format: str  # name in export.formats, or EAGER
    precision: str
    runtime: str
    megabytes: float  # of the file, 10^6 bytes
    latency_ms: float  # one window, one thread
    latency_ratio: float  # latency of EAGER / this one: above 1 is faster
    windows_per_s: float  # a batch, all threads
    speed_ratio: float  # windows_per_s / that of EAGER: above 1 is faster


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the benchmark, as printed by `--json`."""

    device: str
    torch: str
    onnxruntime: str
    backbone: str
    window_px: int
    batch_size: int
    threads: int  # of the batches
    rounds: int
    rows: tuple[Row, ...]
    left_out: dict[str, str]  # format that the package lacks -> why


@dataclass(frozen=True, slots=True)
class Way:
    """How to compute logits, with one thread and with all."""

    precision: str
    runtime: str
    megabytes: float
    alone: Callable[[Inputs], object]  # on one thread
    together: Callable[[Inputs], object]  # on all threads


def bench(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Package folder, of the export step.")] = Path(
        "package"
    ),
    batch_size: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Windows per batch.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the fastest counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure latency and windows per second of every format of a package, as ratios to eager torch, on the CPU."""
    report = measure(package, batch_size, rounds)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        Console().print(_table(report))
        for name, why in report.left_out.items():
            typer.echo(f"{name} is not in the package: {why}")


def measure(package: Path, batch_size: int, rounds: int) -> Report:
    """Time all files of a package; arguments as in `bench`.

    Raises:
        DataError: the package is missing, damaged or changed.
        WeightsError: one of its files is unusable.
    """
    import onnxruntime
    import torch

    from components.common.inference.modelfile import load_model
    from components.common.tracking.packages import MODEL_FILE, formats_of, read_record, verify_files
    from pipeline.bench.train import device_name

    verify_files(package)
    formats: Mapping[str, Any] = formats_of(read_record(package))
    facts = load_model(package / MODEL_FILE)[1]
    ways = {EAGER: _eager(package / MODEL_FILE)}
    for name, found in formats.items():
        if found["status"] == "exported":
            ways[name] = _file(package / found["file"], found, facts)
    window, batch = _inputs(package, facts, 1), _inputs(package, facts, batch_size)
    alone_s, together_s = dict.fromkeys(ways, math.inf), dict.fromkeys(ways, math.inf)
    for round_ in track(range(1 + rounds), "rounds"):  # the first one warms up
        for name, way in ways.items():
            with _threads(1):
                alone = _seconds(way.alone, window)
            together = _seconds(way.together, batch)
            if round_:
                alone_s[name], together_s[name] = min(alone, alone_s[name]), min(together, together_s[name])
    return Report(
        device=device_name(torch.device("cpu")),
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
        backbone=facts.network.backbone,
        window_px=facts.window_px,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        rounds=rounds,
        rows=rows(ways, alone_s, together_s, batch_size),
        left_out={name: found["reason"] for name, found in formats.items() if found["status"] != "exported"},
    )


def rows(
    ways: Mapping[str, Way], alone_s: Mapping[str, float], together_s: Mapping[str, float], batch_size: int
) -> tuple[Row, ...]:
    """The figures of every way.

    Args:
        ways: name -> way; EAGER is one of them.
        alone_s: name -> seconds of one window on one thread.
        together_s: name -> seconds of a batch on all threads.
        batch_size: windows per batch.
    """
    return tuple(
        Row(
            format=name,
            precision=way.precision,
            runtime=way.runtime,
            megabytes=way.megabytes,
            latency_ms=1000 * alone_s[name],
            latency_ratio=alone_s[EAGER] / alone_s[name],
            windows_per_s=batch_size / together_s[name],
            speed_ratio=together_s[EAGER] / together_s[name],
        )
        for name, way in ways.items()
    )


def _eager(weights: Path) -> Way:
    """The network as the project runs it, from pixels as stored to logits, in float32."""
    import torch

    from components.common.inference.modelfile import load_model
    from components.export.formats.servable import Servable

    network, facts = load_model(weights)
    module = Servable(network, facts).eval()

    def compute(inputs: Inputs) -> object:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, inputs))

    return Way("float32", "torch", weights.stat().st_size / 1e6, compute, compute)


def _file(path: Path, found: Mapping[str, Any], facts: ModelFacts) -> Way:
    """A file of the package, which is checked before it is opened.

    Raises:
        WeightsError: the file is unusable, or could do something else than compute.
    """
    from components.common.exported.graph_file import check_graph
    from components.common.exported.program_file import check_program
    from components.export.parity.runtimes import open_file

    (check_program if path.suffix == ".pt2" else check_graph)(path)
    together = open_file(path, facts)
    alone = together if found["runtime"] == "torch" else open_file(path, facts, threads=1)
    return Way(
        precision=found["precision"],
        runtime=found["runtime"],
        megabytes=found["bytes"] / 1e6,
        alone=lambda inputs: alone(*inputs),
        together=lambda inputs: together(*inputs),
    )


def _inputs(package: Path, facts: ModelFacts, samples: int) -> Inputs:
    """The crops of the package with all sensors, as files take them, repeated up to `samples`."""
    from components.common.inference.stored_crops import FILE
    from components.export.parity.parity_cases import crop_cases

    _, (image_NCHW, dsm_N1HW), _ = next(crop_cases(package / FILE, facts))
    chosen = [index % len(image_NCHW) for index in range(samples)]
    return image_NCHW[chosen], dsm_N1HW[chosen]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute on `count` threads until the block ends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(compute: Callable[[Inputs], object], inputs: Inputs) -> float:
    start = time.perf_counter()
    compute(inputs)
    return time.perf_counter() - start


def _table(report: Report) -> Table:
    title = (
        f"{report.backbone}, windows of {report.window_px} px, batches of {report.batch_size}, {report.device}, torch "
        f"{report.torch}, ONNX Runtime {report.onnxruntime}"
    )
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    for column in ("format", "precision", "runtime"):
        table.add_column(column, no_wrap=True)
    for column in ("\nMB", "latency,\nms", "faster\nby", "windows\nper s", "faster\nby"):
        table.add_column(column, justify="right")
    for row in report.rows:
        table.add_row(
            row.format,
            row.precision,
            row.runtime,
            f"{row.megabytes:.1f}",
            f"{row.latency_ms:.1f}",
            f"{row.latency_ratio:.2f} x",
            f"{row.windows_per_s:.1f}",
            f"{row.speed_ratio:.2f} x",
        )
    return table
