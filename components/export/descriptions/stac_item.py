"""Describe a package as a STAC item with the extension for models (MLM), so that catalogues can find and check it.

In: facts, evaluation, formats and files of a package. Out: `stac_item.json`. Extensions: MLM, classification, file.
Nothing in it depends on time or machine: the data state no time, so the item is valid for any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pystac
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension

from components.common.data.store import TileEntry
from components.common.exported.graph_inputs import dsm_values
from components.common.files import digest
from components.common.inference.modelfile import ModelFacts
from components.common.tracking.packages import MODEL_FILE
from components.export.descriptions import card
from components.export.descriptions.example import FILE as EXAMPLE
from components.export.descriptions.hub_metadata import identifier, licence_fields
from components.export.descriptions.training_area import area_of

FILE = "stac_item.json"
"""Name of the item in a package."""

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"

SHA256 = "1220"
"""Beginning of a sha256 as a multihash, which the extension `file` requires: algorithm and length."""

ALWAYS = {"start_datetime": "1900-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
"""The widest range of MLM's own examples: neither the model nor its data are bound to a time."""

SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc0-1.0": "CC0-1.0"}
"""Licence of the hub -> as STAC writes it."""

TASKS = ["semantic-segmentation"]

INSIDE = "mlm-value-scaling-inside-the-file"
"""Format of the scaling that a file does itself; a program that scales inputs must not know it."""

ARTIFACTS = {
    ".safetensors": ("PyTorch", "torch", "safetensors.torch.save_file"),
    ".onnx": ("ONNX", "onnx", "torch.onnx.export"),
    ".pt2": ("PyTorch", "torch", "torch.export.save"),
}
"""Ending of a model file -> its framework, the package that has its version, and the function that writes it."""

OTHERS = {
    card.FILE: ("Model card", "text/markdown", ["metadata"]),
    EXAMPLE: ("Runnable example: numpy and onnxruntime", "text/x-python", ["code", "example", "mlm:source_code"]),
    "evaluation.json": ("Scores with their protocol", "application/json", ["metadata"]),
    "crops.safetensors": ("Crops with the logits that the model must give", "application/octet-stream", ["data"]),
    "reference.json": ("Statistics that new scenes are compared with", "application/json", ["metadata"]),
}
"""Other files of a package -> title, media type and roles of their assets."""


def make(
    facts: ModelFacts,
    evaluation: Mapping[str, Any],
    formats: Mapping[str, Mapping[str, Any]],
    files: Iterable[Path],
    *,
    parameters: int,
    outputs: Sequence[str] = ("logits",),
    free_size: bool = False,
    tiles: Sequence[TileEntry] = (),
) -> dict[str, Any]:
    """The item as JSON content.

    Args:
        facts: facts of the packaged model.
        evaluation: content of the model's `evaluation.json`.
        formats: formats of the package, as in its record.
        files: files of the package; each becomes an asset with its checksum.
        parameters: number of weights of the network.
        outputs: names of the outputs of the files, as `export.outputs` selects them.
        free_size: whether height and width of an input are free; otherwise they are the window's side.
        tiles: of the training, for the position of the item; those of generated scenes have none.
    """
    by_name = {path.name: path for path in sorted(files)}
    side = -1 if free_size else facts.window_px
    area = None if facts.source == "sample" else area_of(tiles)
    item = pystac.Item(
        id=identifier(f"mobanet-{facts.dataset}-{facts.split}-{digest(by_name[MODEL_FILE])[:12]}").lower(),
        geometry=None if area is None else area.geometry,
        bbox=None if area is None else list(area.bounds),
        datetime=None,
        properties=ALWAYS
        | _about(facts, evaluation)
        | {
            "mlm:total_parameters": parameters,
            "mlm:memory_size": by_name[MODEL_FILE].stat().st_size,
            "mlm:input": [_image(facts, side), _dsm(facts, side)],
            "mlm:output": [_output(name, facts, side) for name in outputs],
        },
        stac_extensions=[MLM],
    )
    described = {found["file"]: found for found in formats.values() if found["status"] == "exported"}
    for path in by_name.values():
        _add_asset(item, path, described.get(path.name, {}), facts)
    content: dict[str, Any] = json.loads(json.dumps(item.to_dict(include_self_link=False), allow_nan=False))
    return content


def _about(facts: ModelFacts, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is, how it was trained, and how well it does."""
    start, licence = facts.initial_weights, licence_fields(facts)["license"]
    pretrained = start.source != "none"
    backbone = f"timm/{facts.network.backbone}"
    return {
        "title": f"MoBaNet, {facts.dataset}, split {facts.split}",
        "description": f"Assigns one of {len(facts.classes)} classes to every pixel of an aerial image with heights.",
        "license": SPDX.get(licence, "other"),
        "gsd": facts.gsd_m,
        "bands": _bands(facts),
        "mlm:name": _name(facts),
        "mlm:architecture": f"MoBaNet ({facts.network.backbone})",
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        **_version("mlm:framework_version", "torch"),
        "mlm:pretrained": pretrained,
        "mlm:pretrained_source": (backbone if start.source == "hub" else start.source) if pretrained else None,
        "mlm:accelerator": "cuda",
        "mlm:accelerator_constrained": False,
        "mlm:accelerator_summary": "Runs on CPUs; a CUDA GPU makes it faster.",
        "mlm:hyperparameters": {
            "network": asdict(facts.network),
            "heights": asdict(facts.heights),
            "window_px": facts.window_px,
            "step": facts.step,
            "seed": facts.seed,
            "precision": facts.precision,
            "temperature": facts.temperature,
        },
        "mobanet:dsm_values": dsm_values(facts.heights),
        "mobanet:data_md5": facts.data_md5,
        "mobanet:git_commit": facts.git_commit,
        "mobanet:weights_licence": start.licence,
        "mobanet:acknowledgement": facts.acknowledgement,
        "mobanet:evaluation": _figures(evaluation),
    }


def _figures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The most important figures, as they are in `evaluation.json`, percent points."""
    protocol, balance = evaluation["protocol"], evaluation["balance"]
    scores = evaluation["scores"][protocol["ground_truth"]]
    return {
        "split": protocol["split"],
        "subset": protocol["subset"],
        "ground_truth": protocol["ground_truth"],
        "miou": {condition: found["miou"] for condition, found in scores.items()},
        "expected_miou": balance and balance["expected_miou"],
    }


def _bands(facts: ModelFacts) -> list[dict[str, Any]]:
    """Bands of both inputs; an image band has the mean and deviation of the training data, as pixels are stored."""
    low, high = facts.image_range
    image = [
        {
            "name": name,
            "data_type": "float32",
            "nodata": "nan",
            "statistics": {"mean": low + mean * (high - low), "stddev": std * (high - low)},
        }
        for name, mean, std in zip(facts.bands, facts.image_mean, facts.image_std, strict=True)
    ]
    unit = {} if dsm_values(facts.heights) == "scaled" else {"unit": "m"}
    return [*image, {"name": "dsm", "data_type": "float32", "nodata": "nan"} | unit]


def _image(facts: ModelFacts, side: int) -> dict[str, Any]:
    low, high = facts.image_range
    steps: list[dict[str, Any]] = [
        {"type": "min-max", "minimum": low, "maximum": high},
        {"type": "clip", "minimum": 0, "maximum": 1},
        {"type": "z-score", "mean": list(facts.image_mean), "stddev": list(facts.image_std)},
    ]
    description = f"Pixels as stored, {low:g} to {high:g}. NaN: not measured; NaN everywhere: the image is missing."
    return _input("image", description, facts.bands, steps, side)


def _dsm(facts: ModelFacts, side: int) -> dict[str, Any]:
    heights = facts.heights
    low, high = heights.clip
    steps: list[dict[str, Any]] = [{"type": "clip", "minimum": low, "maximum": high}]
    if heights.offset_m is not None and heights.scale_m is not None:
        linear = [{"type": "offset", "value": heights.offset_m}, {"type": "scale", "value": heights.scale_m}]
        steps = [*linear, *steps]
    words = card.GRAPH_HEIGHTS[dsm_values(heights)]
    description = f"{words[0].upper()}{words[1:]}. NaN: not measured; NaN everywhere: the DSM is missing."
    return _input("dsm", description, ("dsm",), steps, side)


def _input(
    name: str, description: str, bands: Sequence[str], steps: Sequence[Mapping[str, Any]], side: int
) -> dict[str, Any]:
    """An input of the files. What is scaled inside must not be scaled again, so no program can apply it by itself."""
    return {
        "name": name,
        "description": description,
        "bands": list(bands),
        "input": _array([len(bands)], "bands", "float32", side),
        "value_scaling": [
            {
                "type": "processing",
                "format": INSIDE,
                "expression": list(steps),
                "description": "The ONNX and pt2 files do this themselves, one step after the other: give them values "
                f"as stored. Only {MODEL_FILE} needs values that are scaled so.",
            }
        ],
        "resize_type": None,
    }


def _output(name: str, facts: ModelFacts, side: int) -> dict[str, Any]:
    _, data_type, description = card.OUTPUTS[name]
    channels = [len(facts.classes)] if name == "logits" else []
    return {
        "name": name,
        "description": description,
        "tasks": TASKS,
        "result": _array(channels, "class", data_type, side),
        "classification:classes": [] if name == "confidence" else [one.to_dict() for one in _classes(facts)],
        "post_processing_function": None,
    }


def _array(channels: Sequence[int], axis: str, data_type: str, side: int) -> dict[str, Any]:
    """Shape of an array: any number of samples, and windows of a size; -1: any."""
    return {
        "shape": [-1, *channels, side, side],
        "dim_order": ["batch", *[axis] * len(channels), "height", "width"],
        "data_type": data_type,
    }


def _classes(facts: ModelFacts) -> list[Classification]:
    return [
        Classification.create(
            value=value,
            name=re.sub(r"[^0-9A-Za-z_-]+", "_", name),
            description=name,
            color_hint="{:02X}{:02X}{:02X}".format(*colour),
        )
        for value, (name, colour) in enumerate(zip(facts.classes, facts.palette, strict=True))
    ]


def _add_asset(item: pystac.Item, path: Path, found: Mapping[str, Any], facts: ModelFacts) -> None:
    """Add a file of the package; one that the record describes as a format, and the weights, are models."""
    title, media_type, roles = OTHERS.get(path.name, (path.name, "application/octet-stream", ["data"]))
    more: dict[str, Any] = {}
    if path.name == MODEL_FILE or found:
        framework, package, artifact = ARTIFACTS[path.suffix]
        title = f"{framework}, {found.get('precision', 'float32')}"
        roles = ["mlm:model", *(["mlm:weights"] if path.name == MODEL_FILE else []), "data"]
        names = [{"name": band["name"]} for band in _bands(facts)]  # STAC allows bands of an item if an asset has some
        more = {"mlm:artifact_type": artifact, "mlm:framework": framework, "bands": names}
        more |= _version("mlm:framework_version", package)
    elif path.name == EXAMPLE:
        more = {"mlm:entrypoint": EXAMPLE}
    asset = pystac.Asset(href=f"./{path.name}", title=title, media_type=media_type, roles=roles, extra_fields=more)
    item.add_asset(path.name, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(size=path.stat().st_size, checksum=SHA256 + digest(path))
    if path.name == MODEL_FILE:
        ClassificationExtension.ext(asset, add_if_missing=True).apply(_classes(facts))


def _name(facts: ModelFacts) -> str:
    """The name with the characters that the extension accepts."""
    return re.sub(r"[^0-9A-Za-z_.\-]+", "-", f"MoBaNet {facts.dataset} {facts.split}").strip("_.-")


def _version(key: str, package: str) -> dict[str, str]:
    """The version of a library without its build, which differs between machines; empty: it is not three numbers."""
    found = re.fullmatch(r"(\d+\.\d+\.\d+)(\+.*)?", version(package))
    return {key: found[1]} if found else {}
