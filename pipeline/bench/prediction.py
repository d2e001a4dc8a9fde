"""`mobanet bench predict`: speed, memory and accuracy of predict, compared with other ways, all in one run.

In: a model, or the name of a backbone. Out: a table or JSON on stdout. The parts: `loops` (windows per second against
the released loop, MONAI and torchgeo), `sensors` (windows per second with one sensor against both), `sample` (time and
mIoU against the released protocol), `memory` (peak against the size of the raster), `scene` (a large scene from disk to
GeoTIFF, against the device's ceiling).
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.bench.predict_memory import Mapped
    from pipeline.bench.predict_sample import Compared
    from pipeline.bench.predict_speed import Scene

log = logging.getLogger(__name__)

WINDOW_PX = 256
"""Side of the window of a backbone with random weights, before padding to whole patches."""


class Part(StrEnum):
    """A part of the benchmark."""

    loops = "loops"
    sensors = "sensors"
    sample = "sample"
    memory = "memory"
    scene = "scene"


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the benchmark, as printed by `--json`. A part that was not measured is empty or null."""

    device: str
    torch: str
    backbone: str
    window_px: int
    stride_px: int
    batch_size: int
    windows_per_px: float  # that cover a pixel, on average
    windows_per_s: dict[str, float | None]  # by way; None: its package is not installed
    faster: dict[str, float]  # other way -> windows per second of predict divided by those of the other
    sensors_windows_per_s: dict[str, float]  # by the sensors of the raster, absent ones excluded
    sensors_faster: dict[str, float]  # one sensor -> its windows per second divided by those with both
    sample: Compared | None
    memory: tuple[Mapped, ...]
    memory_spread: float | None  # (largest peak - smallest peak) / largest peak
    scene: Scene | None


def bench(
    model: Annotated[Path, typer.Option(metavar="MODEL", help="Package folder or .safetensors file.")] = Path(
        "package"
    ),
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of a model: a timm name, with random weights.")
    ] = None,
    parts: Annotated[
        list[Part] | None,
        typer.Option("--part", help="What to measure; repeatable. Default: all; without a GPU, no scene."),
    ] = None,
    large: Annotated[bool, typer.Option("--large", help="Also measure the memory at 48,000 x 48,000 px.")] = False,
    side: Annotated[int, typer.Option(metavar="PX", min=256, help="Side of the scene, pixels.")] = 12_000,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for generated rasters. Default: a temporary folder.")
    ] = None,
    raw: Annotated[Path, typer.Option(metavar="DIR", help="Raw tiles of the sample.")] = Path("data/raw"),
    store: Annotated[Path, typer.Option(metavar="DIR", help="Store of the sample.")] = Path("data/store"),
    params: Annotated[Path, typer.Option(metavar="FILE", help="File with the section `predict`.")] = Path(
        "params.yaml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure predict: windows per second, time and mIoU on the sample, memory against raster size, a large scene.

    The other ways get the same network and windows: the released loop (one window at a time, a pass per stream,
    float32), and MONAI and torchgeo if they are installed. The sample is compared with the released protocol (stride
    32, plain sums) if data/raw and data/store exist. The memory is that of a process per raster with a network that
    costs almost nothing; rasters are generated and deleted again. With `sensors`, the network leaves out an absent
    sensor (`model.missing: excluded`), whatever its own setting is.
    """
    with _room(folder) as room:
        report = measure(room, params, model, backbone, parts, large, side, raw, store)
    typer.echo(json.dumps(asdict(report), indent=2) if as_json else as_table(report))


def measure(
    room: Path,
    params: Path,
    model: Path,
    backbone: str | None,
    parts: Sequence[Part] | None,
    large: bool,
    side_px: int,
    raw: Path,
    store: Path,
) -> Report:
    """Measure the parts; arguments as in `bench`, and `room`, a folder for generated files.

    Raises:
        ParamsError: a setting or the backbone is not valid.
        WeightsError: the model cannot be read.
    """
    import torch

    from components.common.inference.modelfile import load_model
    from components.common.params import section
    from components.predict.config import PredictConfig
    from pipeline.bench import predict_memory, predict_sample, predict_speed
    from pipeline.bench.train import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = set(parts or (part for part in Part if part != Part.scene or device.type == "cuda"))
    config = section(params, "predict", PredictConfig)
    path = model / "model.safetensors" if model.is_dir() else model
    if backbone is not None:
        path = room / "model.safetensors"
        predict_speed.save_random(path, backbone, WINDOW_PX)
    facts = load_model(path)[1]
    window_px = predict_speed.window_of(config, facts)
    stride_px = predict_speed.stride_of(window_px, config.overlap)
    speeds = predict_speed.loops(path, config, device) if Part.loops in wanted else {}
    by_sensors, both = {}, predict_speed.BOTH
    if Part.sensors in wanted and len(facts.network.modalities) > 1:
        by_sensors = predict_speed.sensors(path, config, device, room)
    sample = None
    if Part.sample in wanted and backbone is None:
        if (raw / "dataset.json").exists() and store.exists():
            sample = predict_sample.compare(path, params, raw, store, device)
        else:
            log.info("%s or %s does not exist: the sample is not measured", raw, store)
    sizes = [*predict_memory.SIZES, *([predict_memory.LARGE] if large else [])] if Part.memory in wanted else []
    mapped = tuple(predict_memory.measure(room, params, sizes))
    ours = speeds.get(predict_speed.OURS)
    return Report(
        device=device_name(device),
        torch=torch.__version__,
        backbone=facts.network.backbone,
        window_px=window_px,
        stride_px=stride_px,
        batch_size=config.batch_size,
        windows_per_px=(window_px / stride_px) ** 2,
        windows_per_s=speeds,
        faster={way: ours / speed for way, speed in speeds.items() if ours and speed and way != predict_speed.OURS},
        sensors_windows_per_s=by_sensors,
        sensors_faster={name: speed / by_sensors[both] for name, speed in by_sensors.items() if name != both},
        sample=sample,
        memory=mapped,
        memory_spread=predict_memory.spread(mapped) if mapped else None,
        scene=predict_speed.scene(path, config, device, side_px, room) if Part.scene in wanted else None,
    )


def as_table(report: Report) -> str:
    """The report as aligned text."""
    lines = [
        f"{report.device}, torch {report.torch}; {report.backbone}, windows of {report.window_px} px, stride "
        f"{report.stride_px}, {report.windows_per_px:.2f} windows per pixel, batch {report.batch_size}"
    ]
    if report.windows_per_s:
        lines += ["", f"{'way':<30}{'windows/s':>12}{'predict is faster by':>24}"]
    for way, speed in report.windows_per_s.items():
        ratio = f"{report.faster[way]:.2f} x" if way in report.faster else ""
        lines.append(f"{way:<30}{'not installed' if speed is None else format(speed, '.1f'):>12}{ratio:>24}")
    if report.sensors_windows_per_s:
        lines += ["", f"{'sensors of the raster':<30}{'windows/s':>12}{'faster than both by':>24}"]
    for name, speed in report.sensors_windows_per_s.items():
        ratio = f"{report.sensors_faster[name]:.2f} x" if name in report.sensors_faster else ""
        lines.append(f"{name:<30}{speed:>12.1f}{ratio:>24}")
    if one := report.sample:
        lines += [
            "",
            f"sample, {one.height_px} x {one.width_px} px: predict {one.seconds:.1f} s ({one.megapixels_per_s:.3f} "
            f"megapixels/s), mIoU {one.miou:.2f}; released protocol {one.released_seconds:.1f} s, mIoU "
            f"{one.released_miou:.2f}: {one.ratio:.1f} x faster, {one.miou_change:+.2f} points",
        ]
    if report.memory:
        lines += ["", f"{'height x width, px':<24}{'peak, MB':>10}{'megapixels/s':>14}{'waited':>8}"]
    for row in report.memory:
        size = f"{row.height_px:,} x {row.width_px:,}"
        lines.append(f"{size:<24}{row.peak_mb:>10,.0f}{row.megapixels_per_s:>14.2f}{row.waited_share:>8.0%}")
    if report.memory_spread is not None:
        lines.append(f"the peaks differ by {report.memory_spread:.1%}")
    if whole := report.scene:
        lines += [
            "",
            f"scene, {whole.side_px:,} x {whole.side_px:,} px: {whole.seconds:.0f} s, {whole.megapixels_per_s:.2f} "
            f"megapixels/s, {whole.windows_per_s:.1f} windows/s of {whole.gflops_per_window:.0f} GFLOP, device waited "
            f"{whole.waited_share:.0%}, {whole.of_ceiling:.1%} of the ceiling of {whole.ceiling_tflops:.1f} TFLOP/s",
        ]
    return "\n".join(lines)


@contextmanager
def _room(folder: Path | None) -> Iterator[Path]:
    """A temporary folder, in the user's folder if there is one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mobanet-bench-", dir=folder) as name:
        yield Path(name)
