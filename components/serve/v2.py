"""Routes of the Open Inference Protocol (V2) over REST, as KServe's clients call them."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from components.common.predictors.predictor import Predictor
from components.common.tracking.provenance import tool_version
from components.predict.arrays import predict_arrays
from components.serve.config import ServeConfig
from components.serve.jobs import Jobs
from components.serve.metering import Metering
from components.serve.refusals import RequestError, bad, no_model
from components.serve.served import Identity, Served
from components.serve.tensors import HEADER, INPUTS, OUTPUTS, InferRequest, answer, parse

EXTENSIONS = ["binary_tensor_data"]

LARGEST_GSD_M = 100_000.0
"""Limit of the ground size of a pixel that a client may state, metres."""


def routes(jobs: Jobs, config: ServeConfig, metering: Metering) -> APIRouter:
    """The routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    def current(name: str, version: str | None = None) -> Identity:
        return _required(jobs.source.identity, name, version)

    @router.get("", summary="The server")
    def server() -> dict[str, Any]:
        return {"name": "mobanet", "version": tool_version(), "extensions": EXTENSIONS}

    @router.get("/health/live", summary="Whether the service runs")
    def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Whether the service has a model")
    def ready() -> dict[str, bool]:
        if jobs.source.identity is None:
            raise no_model()
        return {"ready": True}

    @router.get("/models/{name}", summary="Inputs and outputs of the model")
    @router.get("/models/{name}/versions/{version}", summary="Inputs and outputs of a version")
    def metadata(name: str, version: str | None = None) -> dict[str, Any]:
        with jobs.source.lease() as served:
            return _metadata(_required(served.identity, name, version), served.predictor)

    @router.get("/models/{name}/ready", summary="Whether the model is served")
    @router.get("/models/{name}/versions/{version}/ready", summary="Whether a version is served")
    def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        return {"name": current(name, version).name, "ready": True}

    @router.post("/models/{name}/infer", summary="Classify arrays")
    @router.post("/models/{name}/versions/{version}/infer", summary="Classify arrays with a version")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        current(name, version)
        body, length = await request.body(), request.headers.get(HEADER)

        def work(served: Served, predictor: Predictor) -> tuple[bytes, int | None]:
            identity = _required(served.identity, name, version)
            wanted = parse(body, length)
            arrays, pixels = _classified(wanted, served, predictor, config)
            metering.pixels.inc(pixels)
            return answer(wanted, identity.name, identity.version, arrays)

        (content, json_length), identity = await jobs.run(work)
        headers = identity.headers | ({} if json_length is None else {HEADER: str(json_length)})
        kind = "application/json" if json_length is None else "application/octet-stream"
        return Response(content, media_type=kind, headers=headers)

    return router


def _required(identity: Identity | None, name: str, version: str | None) -> Identity:
    """The current model, which must be the one that a client names."""
    if identity is None:
        raise no_model()
    if name != identity.name:
        raise RequestError(404, f"the model {name[:60]!r} is not served; the model is {identity.name}")
    if version not in (None, identity.version):
        raise RequestError(404, f"version {version[:20]!r} is not served; the version is {identity.version}")
    return identity


def _metadata(identity: Identity, predictor: Predictor) -> dict[str, Any]:
    shapes = {"image": [-1, -1, len(predictor.facts.bands)], "dsm": [-1, -1]}
    return {
        "name": identity.name,
        "versions": [identity.version],
        "platform": "mobanet",
        "inputs": [{"name": name, "datatype": kind.datatype, "shape": shapes[name]} for name, kind in INPUTS.items()],
        "outputs": [{"name": name, "datatype": kind.datatype, "shape": [-1, -1]} for name, kind in OUTPUTS.items()],
        "parameters": {"classes": list(predictor.facts.classes), "bands": list(predictor.facts.bands)},
    }


def _classified(
    wanted: InferRequest, served: Served, predictor: Predictor, config: ServeConfig
) -> tuple[dict[str, Any], int]:
    """Outputs by name, and the number of classified pixels."""
    gsd_m, allow = _gsd_m(wanted.parameters.get("gsd_m")), _codes(wanted.parameters.get("allow", ""))
    rasters = wanted.rasters()
    left_px, maps = config.most_px, []
    for image, dsm in rasters:
        found = predict_arrays(predictor, served.config, image, dsm, gsd_m=gsd_m, allow=allow, most_px=left_px)
        left_px -= found.classes_HW.size
        maps.append(found)
    pick = np.stack if wanted.is_batch else (lambda arrays: arrays[0])
    outputs = {"classes": [m.classes_HW for m in maps], "confidence": [m.confidence_HW for m in maps]}
    return {name: pick(arrays) for name, arrays in outputs.items()}, config.most_px - left_px


def _gsd_m(value: Any) -> float | None:
    if value is not None and not (type(value) in (int, float) and 0 < value < LARGEST_GSD_M):
        raise bad("the parameter gsd_m is not the ground size of a pixel in metres, above 0")
    return value


def _codes(value: Any) -> list[str]:
    if not isinstance(value, str):
        raise bad("the parameter allow is not a string; give codes of checks, separated by commas")
    return [code.strip() for code in value.split(",") if code.strip()]
