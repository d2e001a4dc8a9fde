"""`mobanet serve`: a model as a web service."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.common.errors import ParamsError
from components.common.params import section
from components.common.trust.config import TrustConfig
from components.predict.config import Device, PredictConfig
from components.serve.config import ServeConfig
from pipeline.presets.preset import PARAMS_FILE, named_or_shipped

GRACE_S = 5
"""Time to end, in addition to `serve.timeout_s`, before requests are cut off."""

log = logging.getLogger(__name__)


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="models:/NAME@ALIAS, models:/NAME/VERSION or a package folder.")
    ] = "models:/mobanet@champion",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one.")] = "auto",
    params: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Sections serve, predict and trust; else the shipped defaults."),
    ] = PARAMS_FILE,
) -> None:
    """Serve a model: POST /predict takes GeoTIFFs and returns a map, /v2 takes arrays; /docs lists all routes.

    A new version behind an alias is fetched, checked and exchanged without dropping a request. SIGTERM and Ctrl-C end
    the service after the requests that have begun.

    Exit 0: ended by a signal. Exit 2: the model cannot be loaded, the port is in use, or a setting is wrong.
    """
    import uvicorn

    from components.predict.step import device_of
    from components.serve.app import create_app
    from components.serve.following import ModelSource
    from components.serve.served import Served

    file = named_or_shipped(params)
    config, predict = section(file, "serve", ServeConfig), section(file, "predict", PredictConfig)
    trust, on = section(file, "trust", TrustConfig), device_of(device)
    logging.getLogger("components.predict").setLevel(logging.ERROR)  # else several lines for every request
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until uvicorn handles it
    with _listening(host, port) as listener:
        source = ModelSource(model, lambda package, named: Served(package, named, predict, on, trust), config.poll_s)
        settings = uvicorn.Config(
            create_app(source, config, predict),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(config.timeout_s) + GRACE_S,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn handles it, and sends it again when it has ended
        shown, number = listener.getsockname()[:2]
        log.info("%s: http://%s:%d/docs", model, f"[{shown}]" if ":" in shown else shown, number)
        uvicorn.Server(settings).run(sockets=[listener])
    log.info("%s: ended", model)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        # a name server's error has a number below 0, and socket adds the address to the text of others
        why = os.strerror(error.errno) if (error.errno or 0) > 0 else error.strerror  # type: ignore[arg-type]
        raise ParamsError(
            f"{host}:{port} cannot be used ({why}); choose another address with --host and --port"
        ) from None
