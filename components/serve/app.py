"""The web service: routes, errors as one sentence, and what starts and stops with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from components.common.errors import MobanetError
from components.common.predictors.predictor import Predictor
from components.common.tracking.provenance import tool_version
from components.predict.config import PredictConfig
from components.serve import docs_page, v2
from components.serve.config import ServeConfig
from components.serve.following import ModelSource
from components.serve.jobs import Jobs
from components.serve.limits import Limits
from components.serve.map_requests import MapOptions, rasters_of, written_map
from components.serve.metering import Metering
from components.serve.preview import extras_of, preview
from components.serve.refusals import no_model, sentence_of, status_of
from components.serve.served import Served

ABOUT = (
    "Segmentation of aerial images fused with heights. POST /predict takes two GeoTIFFs or URLs and returns a "
    "Cloud-Optimized GeoTIFF of classes; /v2 takes arrays. Every answer names the model in the headers X-Model-Name, "
    "X-Model-Version and X-Model-Sha256. An error is JSON with one sentence."
)
PAGE = Path(__file__).with_name("map_viewer.html")
FILE = {"type": "string", "format": "binary"}
RASTERS = {
    "requestBody": {
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": FILE, "dsm": FILE}}},
            "application/json": {
                "schema": {"type": "object", "properties": {"image": {"type": "string"}, "dsm": {"type": "string"}}}
            },
        }
    },
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in {
            "crs": "Reference system of files that state none, such as EPSG:32633.",
            "bands": "Bands of the image in the model's order, from 1, such as 3,2,1.",
            "allow": "Checks whose objections are overruled, separated by commas.",
        }.items()
    ],
}
"""OpenAPI description of requests for a map."""


def create_app(source: ModelSource, config: ServeConfig, predict: PredictConfig) -> FastAPI:
    """The application.

    Args:
        source: the model; it is closed when the application stops.
        config: section `serve`.
        predict: section `predict`.
    """
    jobs, metering = Jobs(source, config.concurrency), Metering(source)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(jobs.close)

    app = FastAPI(
        title="MoBaNet",
        description=ABOUT,
        version=tool_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        openapi_url="/openapi.json",
    )
    app.add_middleware(Limits, config=config, source=source, metering=metering)
    for kind in (MobanetError, HTTPException, RequestValidationError, MemoryError):
        app.add_exception_handler(kind, _refused)
    app.include_router(v2.routes(jobs, config, metering))
    _add_status(app, source, metering)

    @app.post("/predict", summary="Map an image and a DSM", openapi_extra=RASTERS)
    async def predict_map(request: Request) -> Response:
        """Two GeoTIFFs as a form, or JSON with URLs -> a Cloud-Optimized GeoTIFF of classes."""
        options, rasters = MapOptions.of(request.query_params), await rasters_of(request)

        def work(_: Served, predictor: Predictor) -> bytes:
            with written_map(rasters, options, predictor, config, predict) as files:
                metering.pixels.inc(files.pixels)
                return files.map.read_bytes()

        content, identity = await jobs.run(work)
        name = {"Content-Disposition": 'attachment; filename="map.tif"'}
        return Response(content, media_type="image/tiff", headers=identity.headers | name)

    @app.post("/preview", summary="Map an image and a DSM, with pictures for a page", openapi_extra=RASTERS)
    async def preview_map(request: Request) -> JSONResponse:
        """The same input as /predict -> the map in base64, pictures of all layers, classes with their shares."""
        options, rasters = MapOptions.of(request.query_params), await rasters_of(request)

        def work(served: Served, predictor: Predictor) -> dict[str, Any]:
            extras = extras_of(predictor.has_gates)
            with written_map(rasters, options, predictor, config, predict, extras) as files:
                metering.pixels.inc(files.pixels)
                return preview(files, asdict(served.identity))

        content, identity = await jobs.run(work)
        return JSONResponse(content, headers=identity.headers)

    return app


def _add_status(app: FastAPI, source: ModelSource, metering: Metering) -> None:
    """Routes about the service itself."""

    @app.get("/health", summary="Whether the service runs, and with which model")
    def health() -> dict[str, Any]:
        model = source.identity
        return {
            "status": "ok",
            "model": None if model is None else asdict(model),
            "source": source.model,
            "problem": source.problem,
        }

    @app.get("/ready", summary="Whether the service has a model")
    def ready() -> dict[str, bool]:
        if source.identity is None:
            raise no_model()
        return {"ready": True}

    @app.get("/metrics", summary="Figures for Prometheus")
    def metrics() -> Response:
        return Response(metering.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text())

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page.page(app.openapi()))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """An error as JSON with one sentence."""
    headers = dict(getattr(error, "headers", None) or {})
    if isinstance(error, HTTPException):
        sentence = f"{request.method} {request.url.path[:100]}: {error.detail}; see /docs"
        return JSONResponse({"error": sentence}, error.status_code, headers)
    if isinstance(error, RequestValidationError):
        return JSONResponse({"error": "a parameter of the URL cannot be used; see /docs"}, 400)
    return JSONResponse({"error": sentence_of(error)}, status_of(error), headers)
