"""Command line of the predict step, which DVC calls: `python -m components.predict`."""

from __future__ import annotations

import logging
from pathlib import Path

from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import entry_point
from components.common.params import section
from components.common.trust.config import TrustConfig
from components.predict.config import PredictConfig
from components.predict.step import run
from components.predict.tile_request import request_for

log = logging.getLogger(__name__)


def main(params: Path, raw: Path, package: Path, maps: Path) -> None:
    """Read the sections `predict` and `trust` of the params file and map the raw tiles that it names."""
    config, data = section(params, "predict", PredictConfig), section(params, "data", DataConfig)
    trust = section(params, "trust", TrustConfig)
    maps.mkdir(parents=True, exist_ok=True)
    if config.tiles == ():
        log.info("predict.tiles is empty: no map")
        return
    run(config, request_for(raw, data.split, config.tiles, package, maps), trust)


if __name__ == "__main__":
    entry_point(
        "predict",
        "Map the test tiles, or other raw tiles, as one raster with the packaged model.",
        {"raw": "data/raw", "package": "package", "maps": "maps"},
        main,
    )
