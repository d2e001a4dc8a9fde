"""`mobanet bench data`: crops per second and memory of the data loader, compared with two other methods.

In: options; tiles are generated in a temporary folder. Out: a table or JSON on stdout. All methods cut the same crops
with the same number of workers, one method after the other in one run, from files in the page cache.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

from components.common.errors import ParamsError
from components.common.params import section
from components.common.pool import cores
from pipeline.bench.memory import MB, private_bytes

log = logging.getLogger(__name__)

LOADER, TWICE, RASTERIO, CACHED = "loader", "loader, twice the tiles", "rasterio", "cached"
WAYS = {
    LOADER: "the loader",
    TWICE: "the loader, twice as many tiles",
    RASTERIO: "rasterio windows",
    CACHED: "float32 arrays in each worker",
}

STEPS = 10_000_000
"""Steps of the stream: more than a benchmark can reach."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of the benchmark."""

    tiles: int  # >= 1
    side_px: int  # side of a tile, pixels
    crop_px: int  # side of a crop, pixels, <= side_px
    batch_size: int  # crops per batch, >= 2
    workers: int  # worker processes, >= 0
    seconds: float  # measuring time per method, seconds, > 0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one method."""

    crops_per_s: float
    private_mb: float  # private memory of the largest worker; without workers, of this process


def bench(
    tiles: Annotated[int, typer.Option(min=1, help="Tiles to cut from.")] = 4,
    side: Annotated[int, typer.Option(min=16, max=20000, metavar="PX", help="Side of a tile, pixels.")] = 6000,
    crop: Annotated[int, typer.Option(min=8, metavar="PX", help="Side of a crop, pixels.")] = 256,
    batch: Annotated[int, typer.Option(min=2, metavar="N", help="Crops in a batch.")] = 24,
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes. [default: one per core]")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Measuring time per method.")] = 8.0,
    params: Annotated[Path, typer.Option(metavar="FILE", help="File with all other keys of section `train`.")] = Path(
        "params.yaml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure speed and memory of the data loader, and of two other methods: rasterio windows, and a cache per worker.

    Tiles are generated in the temporary folder (TMPDIR) and deleted afterwards. A tile of 6000 x 6000 px takes about
    0.9 GB. All methods read from a warm page cache.
    """
    if crop > side:
        raise ParamsError(f"--crop is {crop}, larger than the tile's side of {side} px; reduce it")
    setting = Setting(tiles, side, crop, batch, cores() if workers is None else workers, seconds)
    figures = measure(setting, params)
    facts = dataclasses.asdict(setting) | {"cores": cores()}
    if as_json:
        ways = {name: dataclasses.asdict(f) if f else None for name, f in figures.items()}
        typer.echo(json.dumps({**facts, "ways": ways, "ratios": ratios(figures)}, indent=2))
    else:
        Console().print(_table(setting, figures))


def measure(setting: Setting, params: Path) -> dict[str, Figures | None]:
    """Method -> figures; None: the machine has too little memory for the method.

    Raises:
        ParamsError: `params` is missing or invalid.
    """
    from components.train.config import TrainConfig
    from components.train.crops import Crops, batches
    from pipeline.bench import rivals
    from pipeline.bench.noise_tiles import make_store

    train = section(params, "train", TrainConfig)
    stride_px = min(train.validation.stride_px, setting.crop_px)
    config = dataclasses.replace(
        train,
        steps=STEPS,
        batch_size=setting.batch_size,
        crop_px=setting.crop_px,
        flips=True,
        validation=dataclasses.replace(train.validation, stride_px=stride_px),
    )
    with tempfile.TemporaryDirectory(prefix="mobanet-bench-") as name:
        folder = Path(name)
        store = make_store(folder, 2 * setting.tiles, setting.side_px, tiffs=setting.tiles)
        few, all_tiles = store.manifest.tiles[: setting.tiles], store.manifest.tiles
        places = Crops(store, few, config).places(0, 100_000)
        cuts, loading = (places, setting.crop_px), (setting.batch_size, setting.workers)
        ways: dict[str, Callable[[], Generator[Any, None, None]]] = {
            LOADER: lambda: batches(Crops(store, few, config), config, setting.workers, 1),
            TWICE: lambda: batches(Crops(store, all_tiles, config), config, setting.workers, 1),
            RASTERIO: lambda: rivals.stream(rivals.RasterioCrops(folder, *cuts), *loading),
            CACHED: lambda: rivals.stream(rivals.CachedCrops(store, setting.tiles, *cuts), *loading),
        }
        fits = _fits(setting, rivals.cached_bytes(setting.side_px))
        _read_all(folder)
        return {way: _figures(start, setting) if fits or way != CACHED else None for way, start in ways.items()}


def ratios(figures: dict[str, Figures | None]) -> dict[str, float | None]:
    """Speed of the loader divided by that of each other method; None: not measured."""
    ours = figures[LOADER]
    assert ours
    others = {way: figures[way] for way in (RASTERIO, CACHED)}
    return {f"{LOADER}/{way}": ours.crops_per_s / f.crops_per_s if f else None for way, f in others.items()}


def _fits(setting: Setting, cached_bytes: int) -> bool:
    """Whether the memory suffices to cache all tiles in every worker."""
    needed, free = cached_bytes * setting.tiles * max(setting.workers, 1), psutil.virtual_memory().available
    if needed > 0.8 * free:
        log.info("tiles cached in workers: not measured, needs %d MB and %d MB are free", needed // MB, free // MB)
    return needed <= 0.8 * free


def _read_all(folder: Path) -> None:
    """Read every file into the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            while file.read(16 * MB):
                pass


def _figures(start: Callable[[], Generator[Any, None, None]], setting: Setting) -> Figures:
    others = set(multiprocessing.active_children())
    stream = start()
    _count(stream, 4 * max(setting.workers, 1), setting.seconds / 2)  # caches, open files, page tables
    begun = time.monotonic()
    batches = _count(stream, 1, setting.seconds)
    rate = batches * setting.batch_size / (time.monotonic() - begun)
    workers = [process.pid for process in set(multiprocessing.active_children()) - others]
    private = max(private_bytes(pid) for pid in workers or [None])
    stream.close()
    return Figures(rate, private / MB)


def _count(stream: Iterator[object], least: int, seconds: float) -> int:
    """Take at least `least` batches for at least `seconds`, and return their number."""
    end = time.monotonic() + seconds
    return next(count for count, _ in enumerate(stream, start=1) if count >= least and time.monotonic() >= end)


def _table(setting: Setting, figures: dict[str, Figures | None]) -> Table:
    title = (
        f"Crops of {setting.crop_px} px in batches of {setting.batch_size}, flipped at random, from {setting.tiles} "
        f"tiles of {setting.side_px} px; {setting.workers} workers; warm page cache"
    )
    table = Table("method", title=title, title_justify="left")
    for column in ("crops/s", "speedup of the loader", "MB per worker"):
        table.add_column(column, justify="right")
    times = ratios(figures)
    for way, about in WAYS.items():
        if figure := figures[way]:
            ratio = times.get(f"{LOADER}/{way}")
            faster = f"{ratio:.1f} x" if ratio else ""
            table.add_row(about, f"{figure.crops_per_s:,.0f}", faster, f"{figure.private_mb:,.0f}")
        else:
            table.add_row(about, "too little memory", "", "")
    return table
