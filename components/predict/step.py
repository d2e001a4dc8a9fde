"""Predict: a model and a raster of any size -> a map, in the grid of the raster; or parts of a map -> the map.

In: a model, an image or a DSM or both. Out: a Cloud-Optimized GeoTIFF of classes, more layers, polygons, a summary.
No file has its final name before it is complete; an interrupted command continues where it stopped. The map of a raster
does not depend on how the work is split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from components.common.errors import MobanetError, ParamsError
from components.common.files import write_json
from components.common.inference.modelfile import ModelFacts
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Predictor
from components.common.rasterfiles.source_files import local_files
from components.common.readers.scene import Scene, SceneFiles, open_scene
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED
from components.predict.areas.polygons import check_suffix, write_polygons
from components.predict.config import Device, Polygons, PredictConfig, PredictRequest, Restart
from components.predict.heap import Heap
from components.predict.inputs.scene_inputs import Inputs, trained_layers
from components.predict.inputs.suitability import objections, require
from components.predict.outputs.combine import read_parts
from components.predict.outputs.map_facts import MapFacts
from components.predict.outputs.map_layers import layer_names, layer_path, layers_of
from components.predict.outputs.maps import draft_maps
from components.predict.outputs.parts import Region, part_of, region_of
from components.predict.outputs.working import Tally, Working
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice, strips
from components.predict.scores.meter import Meter

log = logging.getLogger(__name__)

SEAM_RATES = ("changes_on_lines", "changes_elsewhere")

Heights = Callable[[slice, slice], npt.NDArray[np.float32]]
"""Rows and columns of a map -> heights `[h, w]`, metres, NaN = not measured."""


class AgreementError(MobanetError):
    """The map is written, but overlapping windows agree less than they should."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PredictResult:
    """A map that was written."""

    output: Path
    summary: dict[str, Any]  # as `map_summary.schema.json`
    megapixels_per_s: float | None  # of this command; None: everything was finished before, or combined
    waited_share: float  # share of the time that the device waited for input, 0..1


def run(config: PredictConfig, request: PredictRequest, trust: TrustConfig = UNCHECKED) -> PredictResult:
    """Map a raster with a model.

    Args:
        config: section `predict`.
        request: model, raster and outputs.
        trust: section `trust`: whose models are used.

    Raises:
        TrustError: the signature of the model is wrong, or missing although it is required.
        ParamsError: a setting does not fit the model, or the working folder belongs to another command.
        DataError: a raster cannot be read, or the model was not trained for such a raster.
        WeightsError: the model cannot be read.
        NonFiniteError: the network gives logits that are NaN or infinite.
        TemporaryError: a server does not answer; the same command continues.
        AgreementError: the map is written, but its windows agree less than `predict.min_agreement`.
    """
    _check_outputs(request)
    device = device_of(request.device)
    with open_model(request.model, device, config.window_px, config.precision, trust) as predictor:
        return make_map(config, request, predictor)


def make_map(config: PredictConfig, request: PredictRequest, predictor: Predictor) -> PredictResult:
    """Map a raster with an open model; arguments and errors as with `run`."""
    with ExitStack() as stack:
        scene = open_scene(scene_files(request, predictor.facts), stack)
        inputs = Inputs(scene, predictor.facts)
        require(objections(scene, inputs.probe, predictor.facts), request.allow)
        shape = inputs.height_px, inputs.width_px
        lattice = Lattice.over(shape, predictor.window_px, config.overlap, config.batch_size)
        facts = _facts(request, predictor, scene, inputs, lattice)
        for kind, note in scene.notes:
            log.info("%s: %s", kind, note.sentence)
        blocks = [Region(facts.here.rows, strip) for strip in strips(lattice, facts.here.columns, config.block_px)]
        with Working.open(request.output, facts, blocks, _files(request), restart=request.restart) as working:
            meter = _compute(working, blocks, inputs, predictor, lattice)
            summary = _publish(working, request.polygons, request.summary, _heights(scene, facts.here))
    _report(request.output, summary)
    _require_agreement(config, request.output, summary)
    return PredictResult(request.output, summary, meter.megapixels_per_s if meter.pixels else None, meter.waited_share)


def run_combine(
    config: PredictConfig,
    parts: Sequence[Path],
    output: Path,
    polygons: Polygons | None = None,
    summary: Path | None = None,
    *,
    restart: Restart = "no",
) -> PredictResult:
    """Combine the maps of all parts; the result is byte-equal to the map of one command.

    Args:
        config: section `predict`; only `min_agreement` matters.
        parts: class maps of all parts, in any order; their further layers lie next to them.
        output: path of the complete class map.
        polygons: polygons to write; None: none. They have no heights.
        summary: path of the summary; None: none.
        restart: whether to discard the work of an interrupted command.

    Raises:
        DataError: a part is missing, is there twice, cannot be read, or belongs to another map.
        AgreementError: as with `run`.
    """
    _check_outputs(PredictRequest(output=output, image=tuple(map(str, parts)), polygons=polygons, summary=summary))
    with read_parts(parts, output, restart=restart) as working:
        content = _publish(working, polygons, summary, None)
    _report(output, content)
    _require_agreement(config, output, content)
    return PredictResult(output, content, None, 0.0)


def device_of(device: Device) -> torch.device:
    """The device to compute on; `auto` is a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ParamsError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    return torch.device(device)


def scene_files(request: PredictRequest, facts: ModelFacts) -> SceneFiles:
    """The rasters of a request, and how their pixels become what a model was trained with."""
    image, dsm = request.layers or trained_layers(facts)
    if request.bands is not None:
        if len(request.bands) != len(image.bands):
            raise ParamsError(
                f"--bands names {len(request.bands)} bands; the model has {len(image.bands)}: {', '.join(image.bands)}"
            )
        image = replace(image, band_numbers=request.bands)
    return SceneFiles(request.image, request.dsm, image, dsm, request.crs)


def _facts(request: PredictRequest, predictor: Predictor, scene: Scene, inputs: Inputs, lattice: Lattice) -> MapFacts:
    model, identity = predictor.facts, predictor.identity
    region = region_of(request.bounds, scene.grid)
    extras = _extras(request)
    if "gates" in extras and not predictor.has_gates:
        raise ParamsError(
            "--gates: this model has no fusion gates, or its format does not give them; leave --gates out"
        )
    return MapFacts(
        model=identity.name,
        model_version=identity.version,
        model_sha256=identity.sha256,
        data_md5=model.data_md5,
        classes=model.classes,
        palette=model.palette,
        sensors=tuple(name for name, layer in (("image", scene.image), ("dsm", scene.dsm)) if layer is not None),
        inputs=inputs.probe.fingerprint,
        settings={
            "window_px": lattice.window_px,
            "stride_px": lattice.stride_px,
            "batch_size": lattice.batch_size,
            "device": predictor.device.type,
            "precision": predictor.precision,
            "bands": list(request.bands) if request.bands else None,
            "allow": sorted(request.allow),
        },
        grid=scene.grid,
        region=region,
        part=part_of(request.part, region),
        layers=layer_names(extras),
    )


def _compute(
    working: Working, blocks: Sequence[Region], inputs: Inputs, predictor: Predictor, lattice: Lattice
) -> Meter:
    """Compute the blocks that are not finished. Reading, computing and writing overlap."""
    here, names = working.here, working.facts.layers
    left = [(block, slice(working.first_row(block), block.rows.stop)) for block in blocks]
    total_px = here.height_px * here.width_px
    left_px = sum((rows.stop - rows.start) * block.width_px for block, rows in left)
    with Meter(total_px, total_px - left_px) as meter, ThreadPoolExecutor(1, "predict-writer") as writer:
        written: Future[None] | None = None
        heap = Heap()
        for block, rows in left:
            if rows.start >= rows.stop:
                continue
            for band in blended(inputs, predictor, lattice, rows, block.columns, meter):
                pixels = layers_of(band, names)
                if written is not None:
                    written.result()
                written = writer.submit(working.write, block, band.rows, pixels, Tally.of(band))
                heap.trim()
        if written is not None:
            written.result()
    heap.trim(now=True)  # writing the files takes memory of its own
    return meter


def _publish(
    working: Working, polygons: Polygons | None, summary: Path | None, heights: Heights | None
) -> dict[str, Any]:
    """Write all files of a finished map; the class map gets its name last."""
    draft = draft_maps(working)
    content = draft.summary()
    if polygons is not None:
        write_polygons(draft.paths["classes"], working.facts.classes, draft.paths.get("confidence"), heights, polygons)
    if summary is not None:
        write_json(summary, content)
    draft.place()
    return content


def _heights(scene: Scene, here: Region) -> Heights | None:
    """Heights of a rectangle of the map, which starts at the first pixel of `here`."""
    if scene.dsm is None:
        return None
    top, left = here.rows.start, here.columns.start
    return lambda rows, columns: scene.metres(
        slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)
    )


def _check_outputs(request: PredictRequest) -> None:
    """Reject what cannot be written now, not after hours."""
    if request.output.suffix.lower() not in (".tif", ".tiff"):
        raise ParamsError(f"{request.output}: a map is a GeoTIFF; use a name that ends in .tif")
    if request.polygons is not None:
        check_suffix(request.polygons.path)
    asked = [request.output, request.summary, request.polygons.path if request.polygons else None]
    outputs = [path for path in asked if path is not None]
    taken = {path.resolve() for path in local_files((*request.image, *request.dsm))}
    for path in (*outputs, *(layer_path(request.output, name) for name in _extras(request))):
        if path.is_dir():
            raise ParamsError(f"{path}: this is a folder; choose the name of a file for the output")
        if path.resolve() in taken:
            raise ParamsError(f"{path}: this file is an input or another output; choose another name for the output")
        taken.add(path.resolve())
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)


def _extras(request: PredictRequest) -> set[str]:
    """Layers that are written in addition to the classes; polygons need the confidence."""
    return {*request.extras, "confidence"} if request.polygons else set(request.extras)


def _files(request: PredictRequest) -> list[list[int]]:
    """Size and time of the input files: one that is edited after an interruption is another input."""
    found = [path.stat() for path in local_files((*request.image, *request.dsm)) if path.is_file()]
    return [[status.st_size, status.st_mtime_ns] for status in found]


def _report(output: Path, summary: dict[str, Any]) -> None:
    """Print what can be seen in a map without opening it."""
    raster, seams = summary["raster"], summary["seams"]
    known = [(entry["name"], entry["share"]) for entry in summary["classes"] if entry["share"] is not None]
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in known) or "no pixel has a class"
    log.info("%s: %d x %d px (width x height); %s", output, raster["width_px"], raster["height_px"], shares)
    agreement, on_lines, elsewhere = (_percent(seams[name]) for name in ("agreement", *SEAM_RATES))
    log.info(
        "overlapping windows agree on %s of their pixels; classes change at %s of the pixels on window edges and at %s "
        "elsewhere",
        *(agreement, on_lines, elsewhere),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _require_agreement(config: PredictConfig, output: Path, summary: dict[str, Any]) -> None:
    agreement, least = summary["seams"]["agreement"], config.min_agreement
    if least is not None and agreement is not None and 100 * agreement < least:
        raise AgreementError(
            f"{output}: overlapping windows agree on {100 * agreement:.2f} % of their pixels, less than "
            f"predict.min_agreement, {least:g} %; raise predict.overlap, or check that the model fits this raster"
        )
