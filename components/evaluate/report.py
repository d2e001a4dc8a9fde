"""The evaluation as one self-contained HTML page: no scripts, no links to other files, a few MB at most.

In: an `Evaluation`, the pictures of every test tile, the manifest. Out: the page, rendered from `report.html.j2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from components.common.data.store import Manifest
from components.common.scoring import panels
from components.common.scoring.balance import Balance
from components.common.scoring.inline_pictures import data_uri
from components.common.scoring.metrics import percent
from components.common.scoring.panels import Picture
from components.common.templates import templates
from components.evaluate import interpretation
from components.evaluate.record import Evaluation

PICTURE_BUDGET = 3_500_000
"""Limit for all pictures of a page, bytes; pictures are shrunk until they fit."""

LEAST_SIDE_PX = 96
"""Minimum size of a picture, pixels. If the pictures still do not fit, the last tiles are left out of the page."""

TRUTH_TITLES = {"eroded": "Eroded ground truth (the protocol)", "full": "Full ground truth"}


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of one class under every condition."""

    title: str
    rgb: tuple[int, int, int]
    counts: bool  # whether it counts in the means
    share: float  # share of the labelled pixels, percent
    iou: dict[str, float]  # by condition; NaN: undefined
    f1: float  # f1, precision and recall: under the first condition
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class TilePictures:
    """Pictures of one tile as data URIs, by title."""

    tile: str
    uris: dict[str, str]


def render(
    record: Evaluation, tiles: Mapping[str, Mapping[str, Picture]], manifest: Manifest, gate_reach: float
) -> str:
    """Render the page.

    Args:
        record: the evaluation.
        tiles: tile -> title -> picture.
        manifest: manifest of the store, for class names, colours and the acknowledgement.
        gate_reach: distance from 0.5 that gets the full colour in gate pictures.
    """
    shown = _inline(tiles)
    return _template().render(
        record=record,
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
        classes=_class_rows(record, manifest),
        confusion=_confusion_shares(record),
        definitions=_definitions(record.balance) if record.balance else (),
        tiles=shown,
        tiles_left_out=len(tiles) - len(shown),
        legend=_legend(manifest),
        ramps={"height": _gradient(panels.HEIGHT_STOPS), "gate": _gradient(panels.GATE_STOPS)},
        missing_height="rgb({}, {}, {})".format(*panels.MISSING),
        gate_ends=(0.5 - gate_reach, 0.5 + gate_reach),
        acknowledgement=manifest.acknowledgement,
    )


def _template() -> jinja2.Template:
    environment = templates(Path(__file__).parent)
    environment.filters["points"] = lambda value: "–" if value is None or np.isnan(value) else f"{value:.1f}"
    environment.filters["ratio"] = lambda value: "–" if value is None or np.isnan(value) else f"{value:.2f}"
    environment.filters["share"] = lambda value: "–" if np.isnan(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
    environment.filters["width"] = lambda value: f"{0 if np.isnan(value) else min(max(value, 0), 100):.1f}%"
    environment.filters["spoken"] = interpretation.spoken
    return environment.get_template("report.html.j2")


def _inline(tiles: Mapping[str, Mapping[str, Picture]]) -> list[TilePictures]:
    """Data URIs that fit into `PICTURE_BUDGET`: shrink all pictures first, then leave out the last tiles."""
    side_px = max(max(picture.shape[:2]) for pictures in tiles.values() for picture in pictures.values())
    while True:
        shown = [
            TilePictures(tile, {title: data_uri(picture, side_px) for title, picture in pictures.items()})
            for tile, pictures in tiles.items()
        ]
        sizes = [sum(len(uri) for uri in tile.uris.values()) for tile in shown]
        if sum(sizes) <= PICTURE_BUDGET:
            return shown
        if side_px <= LEAST_SIDE_PX:
            return [tile for tile, end in zip(shown, np.cumsum(sizes), strict=True) if end <= PICTURE_BUDGET]
        side_px = max(LEAST_SIDE_PX, int(side_px * 0.8))


def _class_rows(record: Evaluation, manifest: Manifest) -> list[ClassRow]:
    by_condition = record.scores[record.protocol.ground_truth]
    first = record.headline.per_class
    labelled = sum(found.pixels for found in first.values())
    return [
        ClassRow(
            title=_title(name),
            rgb=rgb,
            counts=counts,
            share=100 * first[name].pixels / labelled,
            iou={condition: found.per_class[name].iou for condition, found in by_condition.items()},
            f1=first[name].f1,
            precision=first[name].precision,
            recall=first[name].recall,
        )
        for name, rgb, counts in zip(manifest.classes, manifest.palette, manifest.in_means, strict=True)
    ]


def _title(class_name: str) -> str:
    return interpretation.spoken(class_name).capitalize()


def _legend(manifest: Manifest) -> list[tuple[str, tuple[int, int, int]]]:
    named = [(_title(name), rgb) for name, rgb in zip(manifest.classes, manifest.palette, strict=True)]
    return [*named, ("Not labelled", (0, 0, 0))]


def _confusion_shares(record: Evaluation) -> dict[str, list[list[float]]]:
    """Condition -> confusion matrix in percent of the true class (row); NaN: the class is not in the truth."""
    shares = {}
    for condition, counts in record.confusion[record.protocol.ground_truth].items():
        counts_KK = np.asarray(counts)
        totals_KK = np.broadcast_to(counts_KK.sum(axis=1, keepdims=True), counts_KK.shape)
        shares[condition] = percent(counts_KK, totals_KK).tolist()
    return shares


def _gradient(stops: Sequence[tuple[int, int, int]]) -> str:
    return f"linear-gradient(90deg, {', '.join('rgb({}, {}, {})'.format(*stop) for stop in stops)})"


def _definitions(b: Balance) -> tuple[tuple[str, str, str], ...]:
    """Every balance figure: name, value, meaning."""

    def points(value: float) -> str:
        return f"{value:.1f}"

    def ratio(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:.2f}"

    p = f"{b.failure_probability:g}"
    return (
        (
            f"Expected mIoU, E({p})",
            points(b.expected_miou),
            f"each sensor fails with probability {p}, at least one works",
        ),
        ("Average", points(b.average), "mean of both sensors, image only and DSM only"),
        ("Last-1", points(b.last_1), "the lower of the two single-sensor values"),
        ("Retention without the DSM", ratio(b.retention_rgb), "mIoU of the image only, as a share of the fused mIoU"),
        ("Retention without the image", ratio(b.retention_dsm), "mIoU of the DSM only, as a share of the fused mIoU"),
        ("Contribution of the image", points(b.shapley_rgb), "Shapley value, points above the most frequent class"),
        ("Contribution of the DSM", points(b.shapley_dsm), "Shapley value, points above the most frequent class"),
        ("Imbalance", ratio(b.imbalance), "0: both sensors contribute equally, 1: one contributes everything"),
        ("Fusion gain", f"{b.fusion_gain:+.1f}", "points above the better single sensor"),
        ("Most frequent class", points(b.majority), "mIoU of always predicting the most frequent class"),
    )
