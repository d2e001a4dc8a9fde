"""What the tasks of the prediction graph do: plan scenes and parts, map a part, and publish a scene.

All tasks of a run share a workspace:
plan.json        the scenes, their parts and the form
model/           a model from S3
parts/SCENE/     a map per part
maps/SCENE/      the complete map and the files that go with it
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from components.common.data.config import S3
from components.common.errors import DataError, ParamsError, WeightsError
from components.common.files import write_json
from components.common.params import from_mapping
from components.common.rasterfiles.source_files import open_source
from components.common.tracking.packages import MODEL_FILE, SIGNATURE
from components.common.tracking.registered_models import SCHEME, fetch
from components.common.trust.config import TrustConfig
from components.common.yaml_files import parse_yaml
from components.predict.config import Extra, Polygons, PredictConfig, PredictRequest
from components.predict.publication import buckets
from components.predict.publication.scenes import SceneNames, scenes_of

log = logging.getLogger(__name__)

PLAN = "plan.json"
POLYGONS = "polygons"
EXTRAS = (*get_args(Extra), POLYGONS)
"""Names that `extras` of the form may contain."""

MOST_PARTS = 1000
"""Most parts of a scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The form of a run, checked."""

    model: str  # package folder, .safetensors, .onnx, models:/NAME@ALIAS, or one of the first three on S3
    image: str  # see `scenes_of`
    dsm: str  # see `scenes_of`
    output: str  # folder or s3://BUCKET/PREFIX
    parts: int  # of every scene
    extras: tuple[str, ...]  # of EXTRAS
    allow: tuple[str, ...]  # reasons of rejection that the user overrules
    acquired: str  # time of the images, ISO 8601; empty: as the images state
    config: PredictConfig
    trust: TrustConfig


def order_of(form: Mapping[str, Any]) -> Order:
    """Check the form of a run; no file is opened.

    Args:
        form: parameter of the graph -> value; parameters that are not in `Order` are ignored.

    Raises:
        ParamsError: a value is wrong.
    """
    for name, example in (("model", "models:/NAME@ALIAS"), ("output", "s3://BUCKET/PREFIX")):
        if not form[name]:
            raise ParamsError(f"{name} is empty; set it, for example to {example}")
    if not form["image"] and not form["dsm"]:
        raise ParamsError("image and dsm are empty; set at least one of them, for example to s3://BUCKET/PREFIX")
    if not 1 <= form["parts"] <= MOST_PARTS:
        raise ParamsError(f"parts is {form['parts']}; expected a number from 1 to {MOST_PARTS}")
    extras, allow = (tuple(form[name].replace(",", " ").split()) for name in ("extras", "allow"))
    if unknown := [name for name in extras if name not in EXTRAS]:
        raise ParamsError(f"extras names {unknown[0]!r}; expected some of {', '.join(EXTRAS)}")
    if form["acquired"]:
        _time(form["acquired"])
    config = from_mapping(PredictConfig, parse_yaml(form["params"], "params"), "predict")
    trust = from_mapping(TrustConfig, parse_yaml(form["trust"], "trust"), "trust")
    given = {field.name: form[field.name] for field in fields(Order) if field.name in form}
    return Order(**given | {"extras": extras, "allow": allow, "config": config, "trust": trust})


def plan(order: Order, workspace: Path) -> list[str]:
    """Find the scenes, open every file and the bucket, and pin the model; returns the parts as `SCENE I/N`.

    Raises:
        ParamsError: the texts of the form do not fit together.
        MobanetError: a file, the model or the bucket cannot be opened.
    """
    scenes = scenes_of(order.image, order.dsm)
    for scene in scenes:
        for names in filter(None, (scene.image, scene.dsm)):
            with ExitStack() as stack:
                open_source(names, stack)
    if order.output.startswith(S3):
        buckets.require_bucket(order.output)
    model = _model(order.model, workspace / "model", order.trust)
    log.info("%d scenes of %d parts each, model %s", len(scenes), order.parts, model)
    write_json(workspace / PLAN, {"order": asdict(replace(order, model=model)), "scenes": [asdict(s) for s in scenes]})
    return [f"{scene.name} {part}/{order.parts}" for scene in scenes for part in range(1, order.parts + 1)]


def map_part(task: str, workspace: Path) -> None:
    """Map one part of a scene; a retry continues the work.

    Args:
        task: `SCENE I/N`.
        workspace: folder of the run.

    Raises:
        MobanetError: the model does not fit the rasters, or a file cannot be read.
    """
    from components.predict.step import run

    order, scenes = _read_plan(workspace)
    name, _, part = task.rpartition(" ")
    request = PredictRequest(
        output=_part_file(workspace, name, part),
        model=order.model,
        image=scenes[name].image,
        dsm=scenes[name].dsm,
        part=part,
        extras=_layers(order.extras),
        allow=frozenset(order.allow),
    )
    run(replace(order.config, min_agreement=None), request, order.trust)  # the limit concerns the complete map


def finished(tasks: Sequence[str], workspace: Path) -> list[str]:
    """Names of the scenes, each once, whose parts are all mapped.

    Raises:
        DataError: a part is missing.
    """
    for task in tasks:
        name, _, part = task.rpartition(" ")
        if not (file := _part_file(workspace, name, part)).is_file():
            raise DataError(f"{file}: the part {part} of the scene {name} is missing; start the run again")
    return list(dict.fromkeys(task.rpartition(" ")[0] for task in tasks))


def combine_scene(name: str, workspace: Path) -> None:
    """Combine the parts of a scene to `map_of` the scene, with its summary and other files next to it.

    Raises:
        DataError: the parts do not belong together.
        AgreementError: the map is written, but its windows agree too little.
    """
    from components.predict.step import run_combine

    order, _ = _read_plan(workspace)
    output = map_of(name, workspace)
    parts = [_part_file(workspace, name, f"{part}/{order.parts}") for part in range(1, order.parts + 1)]
    polygons = Polygons(path=output.with_suffix(".gpkg")) if POLYGONS in order.extras else None
    run_combine(order.config, parts, output, polygons, summary_of(output))


def map_of(name: str, workspace: Path) -> Path:
    """The complete map of a scene on the workspace."""
    return workspace / "maps" / name / f"{name}.tif"


def scene_of(name: str, workspace: Path) -> tuple[Order, SceneNames]:
    """The form of the run, and one of its scenes."""
    order, scenes = _read_plan(workspace)
    return order, scenes[name]


def summary_of(output: Path) -> Path:
    """The summary of a map."""
    return output.with_name(f"{output.stem}_summary.json")


def acquired_at(order: Order) -> datetime | None:
    """Time of the images in the form; None: empty."""
    return _time(order.acquired) if order.acquired else None


def _read_plan(workspace: Path) -> tuple[Order, dict[str, SceneNames]]:
    content = json.loads((workspace / PLAN).read_text())
    order = content["order"]
    config = from_mapping(PredictConfig, order["config"], "predict")
    trust = from_mapping(TrustConfig, order["trust"], "trust")
    lists = {name: tuple(order[name]) for name in ("extras", "allow")}
    scenes = [SceneNames(one["name"], tuple(one["image"]), tuple(one["dsm"])) for one in content["scenes"]]
    return Order(**order | lists | {"config": config, "trust": trust}), {scene.name: scene for scene in scenes}


def _layers(extras: Sequence[str]) -> frozenset[Extra]:
    """Layers of the parts; polygons state the confidence."""
    wanted = {*extras, "confidence"} if POLYGONS in extras else {*extras}
    return frozenset(name for name in get_args(Extra) if name in wanted)


def _part_file(workspace: Path, name: str, part: str) -> Path:
    return workspace / "parts" / name / f"{part.replace('/', 'of')}.tif"


def _model(model: str, folder: Path, trust: TrustConfig) -> str:
    """A model that is the same for all parts: an alias becomes a version, and objects of S3 become files."""
    if model.startswith(SCHEME):
        folder.mkdir(parents=True, exist_ok=True)
        return fetch(model, MODEL_FILE, folder)[1]
    if not model.startswith(S3):
        if not Path(model).exists():
            raise WeightsError(f"{model}: no such model; set model to a package, a file or models:/NAME@ALIAS")
        return model
    if PurePosixPath(model).suffix in (".safetensors", ".onnx", ".pt2"):
        place = folder / PurePosixPath(model).name
        buckets.download(model, place)
        if trust.public_key is not None:
            with suppress(buckets.MissingObjectError):  # predict then refuses the model if a signature is required
                buckets.download(f"{model.rpartition('/')[0]}/{SIGNATURE}", place.with_name(SIGNATURE))
        return str(place)
    found = buckets.objects(model)
    if not found:
        raise WeightsError(f"{model}: no such package; set model to a folder that the export step wrote")
    places = [_below(folder, uri, uri.removeprefix(f"{model.rstrip('/')}/")) for uri in found]
    for uri, place in zip(found, places, strict=True):
        buckets.download(uri, place)
    return str(folder)


def _below(folder: Path, uri: str, name: str) -> Path:
    """The place of an object in a folder.

    Raises:
        DataError: the place would be outside of the folder.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{uri}: leads out of its folder; delete this object, or set model to another package")
    return folder / name


def _time(text: str) -> datetime:
    """A time of the form; without a time zone it is UTC.

    Raises:
        ParamsError: the text is not a time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"acquired is {text!r}; expected a date or time, for example 2024-06-30T10:15:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
