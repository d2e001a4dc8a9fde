"""`mobanet bench preprocess`: time of the step, compared with reading and writing the same number of bytes.

Both are measured in one run on the same generated tiles with the same number of processes. At the start, the raw files
are not in the page cache; at the end, the results are flushed to disk.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from components.common.data.datasets import Split
from components.common.data.rawtree import RawTree
from components.common.errors import DataError
from components.common.params import section
from components.common.pool import cores, pooled
from components.preprocess.step import PreprocessConfig, make_store
from pipeline.bench.raw_tiles import BYTES_PER_PX, make, raw_tree
from pipeline.bench.watch import watched

log = logging.getLogger(__name__)

STORE_BYTES_PER_PX = 9  # image 3, heights 4, two labels
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of the benchmark."""

    tiles: int
    side_px: int
    workers: int
    raw_gb: float
    store_gb: float
    plain_io_s: float  # time to read the raw files and write as many bytes as the store has
    preprocess_s: float
    ratio: float  # preprocess_s / plain_io_s
    cores_busy: float  # CPU seconds of all processes per second of preprocess
    memory_mb: float  # peak memory of all processes together, shared pages counted once
    worker_private_mb: float  # peak private memory of one worker


@dataclass(frozen=True, slots=True)
class Copy:
    """Files to read, and number of bytes to write to `target`."""

    sources: tuple[Path, ...]
    target: Path
    size: int


def bench(
    tiles: Annotated[int, typer.Option(metavar="N", min=1, help="Number of tiles.")] = 38,
    side: Annotated[int, typer.Option(metavar="PX", min=64, help="Side of a tile, pixels.")] = 6000,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the tiles, which are kept and used again. Default: a temporary folder."
        ),
    ] = None,
    params: Annotated[Path, typer.Option(metavar="FILE", help="File with the section `preprocess` to measure.")] = Path(
        "params.yaml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure preprocess on generated tiles, compared with reading and writing the same number of bytes."""
    config = section(params, "preprocess", PreprocessConfig)
    with _room(folder) as room:
        found = asdict(measure(config, room, tiles, side))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        typer.echo(f"{name:<18}{value:>12,.2f}" if isinstance(value, float) else f"{name:<18}{value:>12,}")


def measure(config: PreprocessConfig, room: Path, tiles: int, side_px: int) -> Measured:
    """Generate tiles in `room`, and measure both times.

    Raises:
        DataError: the disk has too little free space.
    """
    tree = raw_tree(room / "raw", tiles)
    _require_space(room, tiles * side_px**2)
    make(tree, side_px)
    workers = config.workers or cores()
    plain_s, _ = _timed(tree, lambda: _plain_io(tree, room / "plain", side_px, workers))
    shutil.rmtree(room / "plain")
    split = Split("bench", tuple(tree.tiles), (), ())
    with watched() as memory:
        preprocess_s, cpu_s = _timed(tree, lambda: make_store(config, split, tree, room / "store"))
    store_bytes = sum(path.stat().st_size for path in (room / "store").iterdir())
    shutil.rmtree(room / "store")
    return Measured(
        tiles=tiles,
        side_px=side_px,
        workers=min(workers, tiles),
        raw_gb=sum(path.stat().st_size for path in _raw_files(tree)) / 1e9,
        store_gb=store_bytes / 1e9,
        plain_io_s=plain_s,
        preprocess_s=preprocess_s,
        ratio=preprocess_s / plain_s,
        cores_busy=cpu_s / preprocess_s,
        memory_mb=memory.all_mb,
        worker_private_mb=memory.worker_private_mb,
    )


def copy(job: Copy) -> None:
    """Read the source files completely, write `size` bytes to the target, and flush them to disk."""
    buffer = memoryview(bytearray(os.urandom(CHUNK_BYTES)))
    for path in job.sources:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    with job.target.open("wb", buffering=0) as file:
        left = job.size
        while left:
            left -= file.write(buffer[: min(left, CHUNK_BYTES)])
        os.fsync(file.fileno())


def _plain_io(tree: RawTree, target: Path, side_px: int, workers: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    jobs = [
        Copy(tuple(tree.folder / name for name in files.values()), target / tile, side_px**2 * STORE_BYTES_PER_PX)
        for tile, files in tree.tiles.items()
    ]
    for _ in pooled(copy, jobs, workers):
        pass


def _timed(tree: RawTree, work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds and CPU seconds of `work`, with the raw files not in the page cache."""
    _forget(tree)
    start, before = time.perf_counter(), _cpu_s()
    work()
    return time.perf_counter() - start, _cpu_s() - before


def _cpu_s() -> float:
    """CPU seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _forget(tree: RawTree) -> None:
    """Flush all pending writes, and drop the raw files from the page cache."""
    os.sync()
    for path in _raw_files(tree):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _raw_files(tree: RawTree) -> list[Path]:
    return [tree.folder / name for files in tree.tiles.values() for name in files.values()]


@contextmanager
def _room(folder: Path | None) -> Iterator[Path]:
    """The user's folder, or a temporary one that is deleted afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mobanet-bench-") as name:
        yield Path(name)


def _require_space(room: Path, all_px: int) -> None:
    raw, store = all_px * sum(BYTES_PER_PX.values()), all_px * STORE_BYTES_PER_PX
    there = sum(path.stat().st_size for path in (room / "raw").rglob("*.tif"))
    needed, free = (raw + store - there) / 1e9, shutil.disk_usage(room).free / 1e9
    log.info("%.1f GB of raw tiles and %.1f GB of store; %.1f GB are free in %s", raw / 1e9, store / 1e9, free, room)
    if needed > free:
        raise DataError(
            f"{room}: {needed:.1f} GB are needed, but {free:.1f} GB are free; set --folder to a larger disk, or use "
            "fewer --tiles"
        )
