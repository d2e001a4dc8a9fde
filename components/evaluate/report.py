"""The evaluation as one self-contained HTML page of less than 5 MB: it loads nothing and links to nothing.

In: an `Evaluation`, the pictures of every test tile, the worst crops, the manifest. Out: the page, rendered from
`report.html.j2`. Its only script moves the divider of the map; without scripts, the page shows all pictures in rows.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from components.common.data.store import Manifest
from components.common.scoring import panels
from components.common.scoring.panels import Picture
from components.common.templates import templates
from components.evaluate import interpretation, report_tables
from components.evaluate.record import Evaluation
from components.evaluate.report_pictures import inline
from components.evaluate.worst_crops import Crop

TRUTH_TITLES = {"eroded": "Eroded ground truth (the protocol)", "full": "Full ground truth"}


def render(
    record: Evaluation,
    tiles: Mapping[str, Mapping[str, Picture]],
    manifest: Manifest,
    gate_reach: float,
    crops: Sequence[Crop] = (),
) -> str:
    """Render the page.

    Args:
        record: the evaluation.
        tiles: tile -> title -> picture.
        manifest: manifest of the store, for class names, colours and the acknowledgement.
        gate_reach: distance from 0.5 that gets the full colour in gate pictures.
        crops: the worst crops of the test tiles, the worst first.
    """
    shown, shown_crops = inline(tiles, crops, manifest.classes, manifest.palette)
    environment = _environment(record)
    script = environment.get_template("report_map.js.j2").render()
    return environment.get_template("report.html.j2").render(
        record=record,
        script=Markup(script),  # our own text, not of the data
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data_name="Generated sample" if manifest.source == "sample" else manifest.dataset.capitalize(),
        protocol=record.protocol,
        model=record.protocol.model,
        balance=record.balance,
        headline=interpretation.headline(record),
        expectation=interpretation.expectation(record.balance) if record.balance else None,
        verdict=interpretation.verdict(record),
        conditions=record.conditions,
        titles=interpretation.TITLES,
        truth_titles=TRUTH_TITLES,
        classes=report_tables.class_rows(record, manifest),
        confusion=report_tables.confusion_shares(record),
        definitions=report_tables.definitions(record.balance) if record.balance else (),
        differences=report_tables.differences(record),
        coverage=report_tables.coverage(record),
        perturbed=report_tables.perturbed(record),
        calibration=record.calibration,
        boundary=record.boundary,
        intervals=record.intervals,
        tiles=shown,
        tiles_left_out=len(tiles) - len(shown),
        crops=shown_crops,
        legend=report_tables.legend(manifest),
        ramps={"height": _gradient(panels.HEIGHT_STOPS), "gate": _gradient(panels.GATE_STOPS)},
        missing_height="rgb({}, {}, {})".format(*panels.MISSING),
        gate_ends=(0.5 - gate_reach, 0.5 + gate_reach),
        acknowledgement=manifest.acknowledgement,
    )


def _environment(record: Evaluation) -> jinja2.Environment:
    environment = templates(Path(__file__).parent)
    environment.filters["points"] = lambda value: "–" if _absent(value) else f"{value:.1f}"
    environment.filters["signed"] = lambda value: "–" if _absent(value) else f"{round(value, 1) + 0.0:+.1f}"
    environment.filters["ratio"] = lambda value: "–" if _absent(value) else f"{value:.2f}"
    environment.filters["rate"] = lambda value: "–" if _absent(value) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
    environment.filters["share"] = lambda value: "–" if _absent(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
    environment.filters["width"] = lambda value: f"{0 if _absent(value) else min(max(value, 0), 100):.1f}%"
    environment.filters["spoken"] = interpretation.spoken
    environment.globals["interval"] = partial(interpretation.interval, record)
    environment.globals["between"] = interpretation.between
    return environment


def _absent(value: float | None) -> bool:
    return value is None or bool(np.isnan(value))


def _gradient(stops: Sequence[tuple[int, int, int]]) -> str:
    return f"linear-gradient(90deg, {', '.join('rgb({}, {}, {})'.format(*stop) for stop in stops)})"
