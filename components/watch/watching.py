"""Compare scenes of production with the validation tiles of a model: what the network gets and what it gives.

In: a registered model or a package, scenes. Out: `drift.json`, `drift.html`, an MLflow run; an error if a statistic
differs by more than its limit. The network runs in float32, as it did when the reference was made.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.drift.quantities import DSM, IMAGE, WindowPixels
from components.common.drift.reference_windows import FILE, Reference, count_all, read_reference
from components.common.drift.verdicts import Verdict, share_pairs, verdicts
from components.common.errors import DataError, MobanetError, NonFiniteError, ParamsError
from components.common.files import digest, replacing, write_json
from components.common.inference.given_sensors import measured
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Predictor
from components.common.progress import track
from components.common.tracking.packages import RECORD, read_record
from components.common.tracking.registered_models import SCHEME, URI, fetch
from components.common.tracking.run import Backend, new_runs_tagged, open_run
from components.predict.publication.scenes import scenes_of
from components.predict.step import device_of
from components.watch import report
from components.watch.config import Content, WatchConfig, WatchRequest
from components.watch.scene_windows import Drawn, draw_windows

log = logging.getLogger(__name__)

JSON, PAGE = "drift.json", "drift.html"
"""Files of a report."""


class DriftError(MobanetError):
    """The reports are written, and production differs from validation."""

    exit_code: ClassVar[int] = 1


def observe(config: WatchConfig, request: WatchRequest, tracking: Backend, experiment: str) -> Content:
    """Compare scenes with the reference of a model, write the reports; returns the content of `drift.json`.

    Args:
        config: section `watch`.
        request: model, scenes and outputs.
        tracking: whether an MLflow run records the result.
        experiment: of that run.

    Raises:
        ParamsError: the scenes or the model are not named correctly.
        DataError: a raster or the reference cannot be read.
        TrackingError: the registered model cannot be downloaded, or no run can be opened.
    """
    scenes = scenes_of(request.image, request.dsm)
    device = device_of(request.device)
    with _reference_file(request.model) as (file, model), open_model(model, device, None, "float32") as predictor:
        reference = read_reference(file, predictor.facts)
        drawn = draw_windows(scenes, predictor.facts, reference, config.windows, request.crs, config.seed)
        content = _compared(config, predictor, reference, drawn)
    request.reports.mkdir(parents=True, exist_ok=True)
    write_json(request.reports / JSON, content)
    with replacing(request.reports / PAGE) as draft:
        draft.write_text(report.render(content))
    _record(content, request.reports, tracking, experiment)
    return content


def require_none(content: Content, page: Path | str) -> None:
    """Check that no statistic drifted.

    Args:
        content: result of `observe`.
        page: where a reader finds the report, for the message.

    Raises:
        DriftError: one did.
    """
    if content["drifted"]:
        raise DriftError(f"drift in {_listed(content)}; see {page}")


@contextmanager
def _reference_file(model: str) -> Iterator[tuple[Path, str]]:
    """The file of the reference, and the model with its version in place of an alias."""
    if model.startswith(SCHEME):
        if not URI.fullmatch(model):
            raise ParamsError(f"--model is {model}; expected models:/NAME@ALIAS, models:/NAME/VERSION or a package")
        with tempfile.TemporaryDirectory() as folder:
            yield fetch(model, FILE, Path(folder), "--model")
        return
    package = Path(model)
    if not package.is_dir():
        raise ParamsError(f"--model is {model}; expected models:/NAME@ALIAS, models:/NAME/VERSION or a package folder")
    recorded = read_record(package)["sha256"].get(FILE)
    if (package / FILE).is_file() and digest(package / FILE) != recorded:
        raise DataError(f"{package / FILE}: not the file that {RECORD} lists; run the export step again")
    yield package / FILE, model


def _compared(config: WatchConfig, predictor: Predictor, reference: Reference, drawn: Drawn) -> Content:
    tracked = list(track(drawn.windows, "predicting windows"))
    fine = count_all(tracked, predictor.facts, lambda window: logits_of(predictor, window))
    found = verdicts(reference, fine, drawn.areas, config.tolerance)
    pairs = share_pairs(reference, fine)
    return {
        "model": asdict(predictor.identity),
        "settings": asdict(config),
        "scenes": drawn.scenes,
        "windows": len(drawn.windows),
        "areas": drawn.areas,
        "reference": {"windows": len(reference.areas), "areas": len(set(reference.areas))},
        "drifted": any(verdict.drifted for verdict in found),
        "statistics": [_finite(verdict) for verdict in found],
        "shares": {
            name: {
                "title": one.quantity.title,
                "labels": list(one.quantity.labels),
                "validation": pairs[name][0],
                "production": pairs[name][1],
            }
            for name, one in reference.histograms.items()
        },
        "objections": drawn.objections,
    }


def logits_of(predictor: Predictor, window: WindowPixels) -> Tensor:
    """Logits `[K, H, W]` of a window; missing pixels are NaN, as in a map."""
    height, width = window.sensors_HW.shape
    image_CHW = torch.tensor(window.image_HWC, dtype=torch.float32).movedim(-1, 0)
    image_CHW = image_CHW.masked_fill(torch.tensor(window.sensors_HW & IMAGE == 0), torch.nan)
    dsm_1HW = torch.tensor(window.dsm_HW).masked_fill(torch.tensor(window.sensors_HW & DSM == 0), torch.nan)[None]
    side = predictor.window_px
    pad = (0, side - width, 0, side - height)
    image, dsm = (F.pad(layer, pad, value=torch.nan)[None].to(predictor.device) for layer in (image_CHW, dsm_1HW))
    logits_KHW = predictor(*measured(image, dsm, predictor.facts.network)).logits_BKHW[0, :, :height, :width]
    if not bool(logits_KHW.isfinite().all()):
        raise NonFiniteError(
            f"{predictor.identity.name}: the network gives logits that are NaN or infinite; train again with a lower "
            "train.learning_rate or with train.max_gradient_norm"
        )
    return logits_KHW


def _finite(verdict: Verdict) -> Content:
    return asdict(verdict if isfinite(verdict.distance) else replace(verdict, distance=None))  # type: ignore[arg-type]


def _record(content: Content, reports: Path, tracking: Backend, experiment: str) -> None:
    """Send figures and reports to an MLflow run of its own."""
    model = content["model"]
    tags = {"model": model["name"], "model_sha256": model["sha256"], "drift": _listed(content) or "none"}
    with new_runs_tagged({"mlflow.runName": "watch"}), open_run(tracking, experiment=experiment) as run:
        run.params({"watch": content["settings"]})
        run.metrics({f"drift/{one['measure']}/{one['name']}": one["distance"] for one in content["statistics"]}, 0)
        run.metrics({"drift/found": float(content["drifted"])}, 0)
        run.tags(tags)
        for name in (JSON, PAGE):
            run.artifact(reports / name)


def _listed(content: Content) -> str:
    """Titles of the statistics that drifted, each once."""
    return ", ".join(dict.fromkeys(one["title"] for one in content["statistics"] if one["drifted"]))
