"""Requests for a map: GeoTIFFs or URLs -> files in a folder of the request -> the map that `mobanet predict` writes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.common.errors import MobanetError
from components.common.predictors.predictor import Predictor
from components.predict.config import Extra, PredictConfig, PredictRequest
from components.predict.step import make_map
from components.serve.config import ServeConfig
from components.serve.downloads import download
from components.serve.geotiffs import check
from components.serve.refusals import RequestError, bad, sentence_of, status_of
from components.serve.tensors import json_object

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams, UploadFile
    from starlette.requests import Request

LAYERS = ("image", "dsm")
"""Names of the two rasters in a request."""

KNOWN = ("crs", "bands", "allow")
"""Query parameters: as the options of `mobanet predict`."""

MOST_JSON_BYTES = 65_536
"""Two URLs need no more; JSON is read while other requests wait."""

CRS_CODE = re.compile(r"[A-Za-z]{2,10}:[0-9]{1,9}")
"""Authority and code. GDAL takes other descriptions too, among them files and URLs, which it would read."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """Query parameters of a request."""

    crs: str | None = None
    bands: tuple[int, ...] | None = None
    allow: frozenset[str] = frozenset()

    @classmethod
    def of(cls, query: QueryParams) -> MapOptions:
        """Read query parameters.

        Raises:
            RequestError: one is unknown or has no usable value.
        """
        if unknown := sorted(set(query.keys()) - set(KNOWN)):
            raise bad(f"the query parameter {unknown[0][:40]!r} is unknown; known: {', '.join(KNOWN)}")
        if twice := [name for name in ("crs", "bands") if len(query.getlist(name)) > 1]:
            raise bad(f"the query parameter {twice[0]} is given twice; give it once")
        bands = tuple(text.strip() for text in query.get("bands", "").split(",") if text)
        if not all(text.isascii() and text.isdigit() and 0 < int(text[:9]) < 65_536 for text in bands):
            raise bad("bands is not a list of band numbers from 1, for example 3,2,1")
        crs = query.get("crs")
        if crs is not None and not CRS_CODE.fullmatch(crs):
            raise bad("crs is not the code of a reference system, for example EPSG:32633")
        allow = {code.strip() for text in query.getlist("allow") for code in text.split(",") if code.strip()}
        return cls(crs, tuple(map(int, bands)) or None, frozenset(allow))


Rasters = Mapping[str, "UploadFile | str"]
"""image, dsm or both -> an uploaded file or a URL."""


async def rasters_of(request: Request) -> Rasters:
    """The rasters of a request: a form with files, or JSON with URLs.

    Raises:
        RequestError: there is none, or something else is in the request.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        if len(body) > MOST_JSON_BYTES:
            raise RequestError(413, f"the JSON is larger than {MOST_JSON_BYTES} bytes; send only the URLs of two files")
        given = json_object(body)
        found = {name: value for name, value in given.items() if value is not None}
        wrong = [name for name, value in found.items() if not isinstance(value, str)]
    elif kind == "multipart/form-data":
        form = await request.form(max_files=len(LAYERS), max_fields=0)
        found = dict(form.multi_items())
        if len(found) < len(form.multi_items()):
            raise bad("the form has two files of one name; name them image and dsm")
        wrong = [name for name, value in found.items() if isinstance(value, str)]
    else:
        raise RequestError(
            415, "send a form (multipart/form-data) with the files image and dsm, or JSON (application/json) with URLs"
        )
    if unknown := sorted(found.keys() - set(LAYERS)):
        raise bad(f"the request has {unknown[0][:40]!r}; known: {' and '.join(LAYERS)}")
    if wrong:
        raise bad(f"{wrong[0]} is neither a file of the form nor a URL in JSON")
    if not found:
        raise bad("the request has neither image nor dsm; send at least one of them")
    return found


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Files of a finished request; they exist until its block ends."""

    map: Path  # the classes, a Cloud-Optimized GeoTIFF; further layers lie next to it
    rasters: Mapping[str, Path]  # image, dsm or both
    pixels: int  # of the map


@contextmanager
def written_map(
    rasters: Rasters,
    options: MapOptions,
    predictor: Predictor,
    limits: ServeConfig,
    config: PredictConfig,
    extras: frozenset[Extra] = frozenset(),
) -> Iterator[MapFiles]:
    """Write the map of a request into a temporary folder.

    Args:
        rasters: what the client sent.
        options: how to read it.
        predictor: the network.
        limits: section `serve`.
        config: section `predict`.
        extras: layers to write in addition to the classes.

    Raises:
        RequestError: a raster is not allowed, cannot be read or does not fit the model.
    """
    with tempfile.TemporaryDirectory(prefix="mobanet-request-") as name:
        folder = Path(name)
        paths = {layer: folder / f"{layer}.tif" for layer in LAYERS if layer in rasters}
        request = PredictRequest(
            output=folder / "out" / "map.tif",
            image=tuple(str(path) for layer, path in paths.items() if layer == "image"),
            dsm=tuple(str(path) for layer, path in paths.items() if layer == "dsm"),
            crs=options.crs,
            bands=options.bands,
            allow=options.allow,
            extras=extras,
        )
        try:
            for layer, path in paths.items():
                _receive(rasters[layer], path, limits)
                check(path, limits.most_px)
            raster = make_map(replace(config, min_agreement=None), request, predictor).summary["raster"]
        except MobanetError as error:
            raise RequestError(status_of(error), sentence_of(error, folder)) from None
        yield MapFiles(request.output, paths, raster["width_px"] * raster["height_px"])


def _receive(raster: UploadFile | str, path: Path, limits: ServeConfig) -> None:
    """Write what a client sent, or what is behind its URL, to a file."""
    if isinstance(raster, str):
        download(raster, path, limits)
        return
    with raster.file as sent, path.open("wb") as file:
        shutil.copyfileobj(sent, file)
