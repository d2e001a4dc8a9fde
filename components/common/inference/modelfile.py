"""A trained network in one safetensors file; the header holds, as JSON, everything needed to use the weights.

`models/best.safetensors` and `package/model.safetensors` are such files. Pickle is never read or written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.common.data.datasets import CONDITIONS, SENSORS
from components.common.data.store import HeightMethod, Heights
from components.common.errors import WeightsError
from components.common.files import replacing, tuples
from model import MoBaNet, MoBaNetConfig
from model.finite import first_non_finite
from model.mobanet import on_meta
from model.speed import Precision

HEADER = "mobanet"

SIDES_PX = range(1, 16_385)
"""Sides of a window that a header may have, pixels; the limits are those of params.yaml."""

PLACES = frozenset({"device", "dtype"})
"""Arguments of timm that no training writes; with them, a file would decide where its weights are allocated."""

MOST_BLOCKS = 1000
"""Most blocks of a backbone in a header; building more takes minutes. The largest ones that timm has are below 100."""

FLOATS = {"F32", "F16", "BF16"}
"""Types of weights in a file, which load as float32; the counters of batch norm are whole numbers."""

METHODS = get_args(HeightMethod)
HEIGHTS = f"a method out of {', '.join(METHODS)}, finite numbers, scale_m above 0 and an increasing clip"
TEMPERATURES = "a number above 0 per condition (rgb+dsm, rgb, dsm), or null"


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """The weights that a training started from. Defaults: unknown, as in files of earlier versions."""

    source: str = "unknown"  # none (random), hub, a path, s3://bucket/key, or models:/NAME/VERSION
    sha256: str | None = None  # of the loaded tensors, or of the earlier model's file; None: random or unknown
    licence: str = "unknown"  # of the pretrained weights; an earlier model passes on the licence of its own
    parts: dict[str, str] = field(default_factory=dict)  # part of the network -> how much an earlier model filled


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Configuration of a network, its training data, and how to prepare its inputs."""

    network: MoBaNetConfig
    classes: tuple[str, ...]  # in label order
    in_means: tuple[bool, ...]  # which classes count in mIoU and mF1
    palette: tuple[tuple[int, int, int], ...]
    bands: tuple[str, ...]  # image bands, in order
    gsd_m: float  # ground sample distance of the training images, metres per pixel
    heights: Heights  # how heights in metres are scaled to DSM values
    image_range: tuple[float, float]  # pixel values of the files that were mapped to 0 and 255
    image_mean: tuple[float, ...]  # per band, of image / 255
    image_std: tuple[float, ...]  # per band, of image / 255
    window_px: int  # side of a training input, a multiple of the patch size
    dataset: str
    source: str
    split: str
    acknowledgement: str
    data_md5: str  # of the store's manifest: the data version
    git_commit: str
    tool_version: str
    step: int
    seed: int
    validation: dict[str, float | None]  # figures on the validation tiles, at the selected step; None: not defined
    mlflow_run_id: str | None = None
    accepted: dict[str, Any] = field(default_factory=dict)  # findings in the data that the user overruled
    initial_weights: InitialWeights = field(default_factory=InitialWeights)
    precision: Precision = "float32"  # of training and validation, on the device of the training
    frozen_bf16: bool = False  # whether training and validation stored frozen weights in bf16
    temperature: dict[str, float] | None = None  # condition -> calibrated temperature, see `temperature_of`; None: none

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that the network supports: which sensors a map can be made of."""
        return tuple(CONDITIONS) if len(self.network.modalities) == 2 else self.network.modalities


def condition_of(facts: ModelFacts, *, image: bool, dsm: bool) -> str:
    """Name of the condition of an input: which of the network's sensors measured any of its pixels.

    An input that none of them measured gets the condition with all sensors of the network.
    """
    given, known = {"rgb": image, "dsm": dsm}, facts.network.modalities
    return "+".join(name for name in SENSORS if name in known and given[name]) or facts.conditions[0]


def temperature_of(facts: ModelFacts, condition: str) -> float | None:
    """The temperature of one condition: logits are divided by it before the softmax.

    Args:
        facts: facts of the model.
        condition: the sensors that are given: `rgb+dsm`, `rgb` or `dsm`.

    Returns:
        A number above 0, or None if the model is not calibrated for this condition.
    """
    return (facts.temperature or {}).get(condition)


def save_model(path: Path, network: MoBaNet, facts: ModelFacts) -> None:
    """Write a network and its facts atomically; parts that are switched off have no weights in the file.

    Raises:
        WeightsError: a weight is NaN or infinite.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    _require_finite(path, tensors)
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={HEADER: json.dumps(asdict(facts), allow_nan=False)})


def load_model(path: Path) -> tuple[MoBaNet, ModelFacts]:
    """Read a network and its facts; the network is on the CPU and in evaluation mode.

    Raises:
        WeightsError: the file is missing or damaged, `save_model` did not write it, its header has a value that cannot
            be used, or a weight is NaN or infinite.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            if header is None:
                raise WeightsError(
                    f"{path}: the file has no MoBaNet header; use a file that the train or export step wrote"
                )
            facts = read_facts(path, json.loads(header, parse_constant=lambda _: None))  # earlier versions wrote NaN
            _require_tensors(file, facts, path)
            network = MoBaNet(facts.network)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            _require_finite(path, tensors)
            network.load_state_dict(tensors)
    except (FileNotFoundError, IsADirectoryError):
        raise WeightsError(f"{path}: no such model; run the train step first") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not a readable model ({reason}); run the train step again") from None
    return network.eval(), facts


def read_facts(path: Path, content: dict[str, Any]) -> ModelFacts:
    """The facts of a model from JSON.

    Args:
        path: file of the model, for messages.
        content: field -> value.

    Raises:
        WeightsError: a value cannot be used.
        KeyError, TypeError: a field is missing or unknown.
    """
    records = {"network": MoBaNetConfig, "heights": Heights, "initial_weights": InitialWeights}
    made = {name: cls(**tuples(content[name])) for name, cls in records.items() if name in content}
    facts = ModelFacts(**tuples(content) | made)
    if isinstance(facts.temperature, int | float):  # earlier files have one temperature for all conditions
        facts = replace(facts, temperature=dict.fromkeys(facts.conditions, facts.temperature))
    _require_usable(path, facts)
    return facts


def _require_usable(path: Path, facts: ModelFacts) -> None:
    """Check what the header says about the inputs; a wrong value gives wrong classes without another error."""
    bands, heat = len(facts.bands), facts.temperature
    heats = tuple(heat.values()) if isinstance(heat, dict) else (0.0,)  # 0: wrong
    args, classes = facts.network.backbone_args, facts.network.num_classes
    checks = (
        ("network", not PLACES & args.keys(), "backbone_args without " + " and ".join(sorted(PLACES))),
        ("network", args.get("depth", 0) in range(MOST_BLOCKS + 1), f"a depth of the backbone up to {MOST_BLOCKS}"),
        ("classes", _words(facts.classes, classes), f"{classes} names, as many as the network has classes"),
        ("in_means", _are(bool, facts.in_means, classes), f"{classes} times true or false"),
        ("palette", _colours(facts.palette, classes), f"{classes} colours, three whole numbers 0..255 each"),
        ("bands", _words(facts.bands, facts.network.image_bands), f"{facts.network.image_bands} names, one per band"),
        ("gsd_m", _numbers((facts.gsd_m,), 1) and facts.gsd_m > 0, "metres per pixel, above 0"),
        ("image_range", _increasing(facts.image_range), "two numbers, the lower one first"),
        ("heights", _usable_heights(facts.heights), HEIGHTS),
        ("image_mean", _numbers(facts.image_mean, bands), f"{bands} numbers, one per band"),
        ("image_std", _numbers(facts.image_std, bands) and min(facts.image_std) > 0, f"{bands} numbers above 0"),
        ("window_px", type(facts.window_px) is int and facts.window_px in SIDES_PX, "a whole number from 1 to 16384"),
        ("temperature", heat is None or (_numbers(heats, len(heats)) and min(heats, default=1) > 0), TEMPERATURES),
    )
    for name, usable, expected in checks:
        if not usable:
            given = json.dumps(getattr(facts, name), default=asdict)[:200]
            raise WeightsError(
                f"{path}: {name} in the header is {given}; expected {expected}; use a file that the train or export "
                "step wrote"
            )


def _words(values: object, count: int) -> bool:
    return _are(str, values, count) and "" not in values  # type: ignore[operator]


def _are(kind: type, values: object, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(type(value) is kind for value in values)


def _colours(values: object, count: int) -> bool:
    return _are(tuple, values, count) and all(
        _are(int, colour, 3) and all(0 <= value <= 255 for value in colour)
        for colour in values  # type: ignore[attr-defined]
    )


def _increasing(values: object) -> bool:
    return _numbers(values, 2) and values[0] < values[1]  # type: ignore[index]


def _usable_heights(heights: Heights) -> bool:
    given = tuple(value for value in (heights.offset_m, heights.scale_m, heights.ground_radius_m) if value is not None)
    percents = heights.percentiles
    return (
        heights.method in METHODS
        and _numbers(given, len(given))
        and (heights.scale_m is None or heights.scale_m > 0)
        and (percents is None or _increasing(percents))
        and _increasing(heights.clip)
        and heights.relative_to in ("datum", "ground")
    )


def _numbers(values: object, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )


def require_network(path: Path, facts: ModelFacts, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the names and shapes of weights in a file against the network of its facts, which needs no memory.

    Args:
        path: file of the model, for the message.
        facts: what the file says about itself.
        shapes: name of every weight in the file -> its shape.

    Raises:
        WeightsError: a weight is missing, has another shape, or does not belong to the network.
    """
    expected = {name: tuple(value.shape) for name, value in on_meta(facts.network).state_dict().items()}
    for what, names in (("lacks", expected.keys() - shapes.keys()), ("also has", shapes.keys() - expected.keys())):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{path}: not a readable model (it {what} the weights {min(names)}{others}, unlike the network in its "
                "header); use a file that the train or export step wrote"
            )
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise WeightsError(
                f"{path}: not a readable model ({name} has the shape {list(shapes[name])}, but the network in its "
                f"header needs {list(shape)}); use a file that the train or export step wrote"
            )


def _require_tensors(file: Any, facts: ModelFacts, path: Path) -> None:
    """Check names, shapes and types of an open file before memory for the network is allocated."""
    tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    require_network(path, facts, {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        whole, kind = name.endswith("num_batches_tracked"), tensor.get_dtype()
        if kind not in ({"I64"} if whole else FLOATS):
            raise WeightsError(
                f"{path}: not a readable model ({name} has the type {kind}; expected "
                f"{'I64' if whole else ', '.join(sorted(FLOATS))}); use a file that the train or export step wrote"
            )


def _require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if found := first_non_finite(tensors):
        raise WeightsError(
            f"{path}: {found} has a NaN or infinite value, so this model cannot be used; train again with a lower "
            "train.learning_rate or with train.max_gradient_norm"
        )
