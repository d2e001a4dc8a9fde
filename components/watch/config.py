"""Section `watch` of params.yaml, and what one watch is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.drift.verdicts import Tolerance
from components.common.errors import ParamsError
from components.common.params import STRICT, Seed, Share, from_mapping
from components.common.yaml_files import parse_yaml
from components.predict.config import Device


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class WatchConfig:
    """Section `watch` of params.yaml."""

    windows: Annotated[int, Field(ge=8, le=65_536)]  # windows that are drawn from all scenes together
    max_psi: Annotated[float, Field(ge=0, le=100)]  # a population stability index up to this is never drift
    max_ks: Share  # a KS distance up to this is never drift
    level: Annotated[float, Field(gt=0, le=0.5)]  # probability of an alarm without drift, of all statistics together
    seed: Seed  # of the windows and of the bootstrap that gives the limits

    @property
    def tolerance(self) -> Tolerance:
        """When a distance is drift."""
        return Tolerance(self.max_psi, self.max_ks, self.level, self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRequest:
    """Which scenes to compare with which model's validation tiles."""

    model: str  # models:/NAME@ALIAS, models:/NAME/VERSION or a package folder
    image: str = ""  # as in `components.predict.publication.scenes`; empty: no images
    dsm: str = ""  # the same for heights; empty: no heights
    crs: str | None = None  # of files that state none, for example EPSG:32633
    reports: Path = Path("reports")  # gets drift.html and drift.json
    device: Device = "auto"


Content = dict[str, Any]
"""`drift.json` as a mapping."""


def order_of(form: Mapping[str, Any], reports: Path) -> tuple[WatchConfig, WatchRequest]:
    """Check the form of a Kubeflow run; no file is opened.

    Args:
        form: parameter of the graph -> value.
        reports: folder that gets the reports.

    Raises:
        ParamsError: a value is wrong.
    """
    if not form["model"]:
        raise ParamsError("model is empty; set it, for example to models:/NAME@ALIAS")
    if not form["image"] and not form["dsm"]:
        raise ParamsError("image and dsm are empty; set at least one of them, for example to s3://BUCKET/PREFIX")
    config = from_mapping(WatchConfig, parse_yaml(form["params"], "params"), "watch")
    names = {name: form[name] for name in ("model", "image", "dsm")}
    return config, WatchRequest(**names, crs=form["crs"] or None, reports=reports)
