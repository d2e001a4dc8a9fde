"""`mobanet model import`: a checkpoint of the released code -> a model file that every command here accepts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.errors import ParamsError
from components.common.params import section
from pipeline.presets.preset import named_or_shipped

if TYPE_CHECKING:
    from components.common.inference.modelfile import ModelFacts
    from components.train.weights.released_checkpoint import Released

log = logging.getLogger(__name__)

RUN = "run.json"
"""File beside the model that the register step reads: it says that no MLflow run trained the model."""

UNKNOWN = "unknown"
"""Recorded for what neither the checkpoint nor the parameters know."""


def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A .pth file of the released code, or its tensors as .safetensors."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The model to write, a .safetensors file.")],
    params: Annotated[
        Path, typer.Option(metavar="FILE", help="Its sections data, preprocess and train describe the inputs.")
    ] = Path("params.yaml"),
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Data set of the training, instead of data.dataset.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A store whose manifest describes the inputs, instead of data.")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(metavar="N", help="Attention heads; default: of the DINOv2 backbone of this size.")
    ] = None,
    taps: Annotated[
        str | None, typer.Option(metavar="A,B,C,D", help="Tapped blocks, 0-based; default: those of the released code.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of a window, pixels; default: train.crop_px.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the weights, for the model card.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model.")] = False,
) -> None:
    """Convert a checkpoint of the released code to a model that evaluate, export, register and predict accept.

    Nothing in the checkpoint is executed. Class count, sizes and patch size are those of its tensors; what it cannot
    know, such as names of classes and the scaling of heights, comes from the data set and the parameters.
    """
    from components.common.inference.modelfile import save_model
    from components.train.weights.released_checkpoint import load_released

    _require_new(out, checkpoint, force)
    found = load_released(checkpoint, heads, _numbers(taps))
    facts = _facts(found, checkpoint, params, dataset, store, window, licence)
    for note in (*found.notes, *_notes(facts)):
        log.info("%s", note)
    save_model(out, found.network, facts)
    _write_run(out)
    total = sum(weight.numel() for weight in found.network.parameters())
    typer.echo(f"{out}: {len(facts.classes)} classes, {total / 1e6:.2f} M weights, windows of {facts.window_px} px")


def _require_new(out: Path, checkpoint: Path, force: bool) -> None:
    if out.suffix != ".safetensors":
        raise ParamsError(f"--out is {out}; expected the name of a .safetensors file")
    if out.resolve() == checkpoint.resolve():
        raise ParamsError(f"--out is {out}, the checkpoint itself; name another file")
    existing = [path for path in (out, out.with_name(RUN)) if path.exists()]
    if existing and not force:
        raise ParamsError(
            f"{existing[0]} exists; name a file in another folder with --out, or add --force to replace it"
        )


def _write_run(out: Path) -> None:
    from components.common.files import write_json

    write_json(out.with_name(RUN), {"mlflow_run_id": None})


def _numbers(taps: str | None) -> tuple[int, ...] | None:
    if taps is None:
        return None
    try:
        return tuple(int(number) for number in taps.split(","))
    except ValueError:
        raise ParamsError(
            f"--taps is {taps!r}; expected four block numbers with commas, for example 5,11,17,23"
        ) from None


def _facts(
    found: Released,
    checkpoint: Path,
    params: Path,
    dataset: str | None,
    store: Path | None,
    window: int | None,
    licence: str | None,
) -> ModelFacts:
    """The facts of the model: of its inputs as the data set and parameters say, of its training unknown."""
    from components.common.inference.modelfile import SIDES_PX, InitialWeights, ModelFacts
    from components.train.config import TrainConfig
    from model.inputs import padded_side

    if store is not None and dataset is not None:
        raise ParamsError("--store and --dataset are given; a store says its data set itself, so remove one of them")
    file = named_or_shipped(params)
    inputs = _of_store(store) if store is not None else _of_dataset(file, dataset)
    network = found.network
    for name, given, expected in (
        ("classes", network.config.num_classes, inputs["classes"]),
        ("image bands", network.config.image_bands, inputs["bands"]),
    ):
        if given != len(expected):
            raise ParamsError(
                f"{checkpoint}: the checkpoint has {given} {name}, but {inputs['dataset']} has {len(expected)} "
                f"({', '.join(expected)}); name the data set that it was trained on with --dataset or --store"
            )
    side = section(file, "train", TrainConfig).crop_px if window is None else window
    if side not in SIDES_PX:
        raise ParamsError(f"--window is {side}; expected 1 to {SIDES_PX[-1]} pixels")
    start = InitialWeights(
        f"released checkpoint {checkpoint.name}", found.sha256, licence or f"unknown (file {checkpoint.name})"
    )
    return ModelFacts(
        network=network.config,
        window_px=padded_side(side, network.patch_size),
        source=UNKNOWN,
        split=UNKNOWN,
        data_md5=UNKNOWN,
        git_commit=UNKNOWN,
        tool_version=UNKNOWN,
        step=0,
        seed=0,
        validation={},
        initial_weights=start,
        **inputs,
    )


def _of_store(store: Path) -> dict[str, Any]:
    from components.common.data.store import read_manifest

    manifest = read_manifest(store)
    names = ("dataset", "classes", "in_means", "palette", "bands", "gsd_m", "heights", "acknowledgement")
    return {name: getattr(manifest, name) for name in (*names, "image_range", "image_mean", "image_std")}


def _of_dataset(params: Path, name: str | None) -> Mapping[str, Any]:
    from components.preprocess.height_settings import as_recorded
    from components.preprocess.step import PreprocessConfig

    config = section(params, "data", DataConfig)
    same = name in (None, config.dataset)
    known = datasets.dataset(config.dataset, config.image, config.dsm) if same else datasets.dataset(str(name))
    heights = section(params, "preprocess", PreprocessConfig).heights
    if heights.method == "training-range":
        raise ParamsError(
            f"{params}: preprocess.heights.method is training-range, which takes offset and scale from training tiles; "
            "add --store with a store that preprocess has made"
        )
    return {
        "dataset": known.name,
        "classes": tuple(c.name for c in known.classes),
        "in_means": tuple(c.in_means for c in known.classes),
        "palette": tuple(c.rgb for c in known.classes),
        "bands": known.image.bands,
        "gsd_m": known.gsd_m,
        "heights": as_recorded(heights, known.dsm, None),
        "acknowledgement": known.acknowledgement,
        "image_range": known.image.range,
        "image_mean": known.image.mean,
        "image_std": known.image.std,
    }


def _notes(facts: ModelFacts) -> list[str]:
    """What the checkpoint does not contain and the command has assumed."""
    from model.inputs import IMAGENET_MEAN, IMAGENET_STD

    notes = [f"assumed: data set {facts.dataset}, bands {', '.join(facts.bands)}, heights {facts.heights.method}"]
    if facts.heights.method != "per-tile":
        notes.append(
            "note: the released code scales the heights of every tile by themselves (preprocess.heights.method: "
            f"per-tile); this model will get {facts.heights.method} heights, which change its results"
        )
    if (facts.image_mean, facts.image_std) != (IMAGENET_MEAN, IMAGENET_STD):
        notes.append(
            "note: the released code normalises images with ImageNet's mean and standard deviation, this data set with "
            "others"
        )
    return notes
