"""Results as pictures: fusion against robustness, mIoU and contribution of each sensor, gates by stage.

In: `Results`. Out: PNG files, each with its protocol. Large markers and bars are means over the seeds; small dots are
single seeds. Networks of one sensor appear as lines in the picture of the sensors only; a study of nothing else has no
pictures.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.common.data.datasets import Subset
from components.common.files import replacing
from components.common.scoring.balance import balance
from pipeline.ablation.results import SUBSET_TITLES, Results
from pipeline.ablation.trainings import SUBSETS

IMAGE, DSM = "#2f6db3", "#d9822b"

MIOUS = (("both", "miou", "#555555"), ("image", "miou_rgb", IMAGE), ("DSM", "miou_dsm", DSM))
CONTRIBUTIONS = (("image", "shapley_rgb", IMAGE), ("DSM", "shapley_dsm", DSM))
"""Label, figure and colour of a bar."""

GATES = {"gate_mean": "mean gate (1 image, 0 DSM)", "gate_std": "standard deviation", "gate_saturated": "saturated, %"}

STYLE: Any = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True},
    **{"grid.alpha": 0.25, "font.size": 10, "text.parse_math": False},  # names of variants may contain a dollar sign
}


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write every picture for which the results have figures, and return their paths."""
    if not results.fused:
        return []
    with rc_context(STYLE):
        drawn = {name: draw(results) for name, draw in PLOTS.items()}
        return [_save(figure, folder / f"{name}.png", results) for name, figure in drawn.items() if figure]


def _save(figure: Figure, path: Path, results: Results) -> Path:
    width = int(figure.get_figwidth() * 17)
    figure.supxlabel(textwrap.fill(results.protocol.sentence, width), fontsize=7, color="#555555", x=0.01, ha="left")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format="png", facecolor="white")
    return path


def _colour(results: Results, variant: str) -> tuple[float, ...]:
    return tuple(colormaps["tab10"](list(results.variants).index(variant) % 10))


def _panels(
    results: Results, title: str, rows: int = 1, height: float = 4.6
) -> tuple[Figure, dict[Subset, list[Axes]]]:
    """A figure with a column of axes for every subset."""
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots(rows, len(SUBSETS), squeeze=False, sharex="col", sharey="row" if rows > 1 else False)
    figure.suptitle(f"{results.study}: {title}", x=0.01, ha="left", fontweight="bold")
    for column, subset in enumerate(SUBSETS):
        axes[0][column].set_title(SUBSET_TITLES[subset])
    return figure, {subset: list(axes[:, column]) for column, subset in enumerate(SUBSETS)}


def fusion(results: Results) -> Figure | None:
    """E(p) against fused mIoU. The band is the guard of the selection rule, the ring marks the chosen variant."""
    p, guard = results.protocol.failure_probability, results.protocol.guard
    figure, panels = _panels(results, f"E({p:g}) against fused mIoU (band: within {guard:g} of the best; ring: chosen)")
    for subset, (axis,) in panels.items():
        best = 0.0
        for variant in results.fused:
            xs, ys = (results.values(variant, subset, name) for name in ("miou", "expected_miou"))
            colour, (x, y) = _colour(results, variant), (np.mean(xs), np.mean(ys))
            best = max(best, float(x))
            axis.scatter(xs, ys, s=16, color=colour, alpha=0.55, linewidths=0)
            axis.scatter(x, y, s=90, color=colour, label=variant, zorder=3)
            if subset == "val" and variant == results.chosen:
                axis.scatter(x, y, s=260, facecolors="none", edgecolors="black", linewidths=1.4, zorder=4)
        if subset == "val":
            axis.axvspan(best - guard, best, color="black", alpha=0.07, linewidth=0)
        axis.set(xlabel="fused mIoU, %", ylabel=f"E({p:g}), %")
    _legend(figure, panels["val"][0])
    return figure


def sensors(results: Results) -> Figure | None:
    """The mIoU with both sensors and with one. Dashed: networks that were trained for this sensor alone."""
    figure, panels = _panels(results, "mIoU with both sensors, image, DSM", height=2.2 + 0.6 * len(results.fused))
    for subset, (axis,) in panels.items():
        _bars(axis, results, subset, MIOUS)
        for variant in (name for name in results.variants if name not in results.fused):
            for _, name, colour in MIOUS[1:]:
                dedicated = results.mean(variant, subset, name)
                if dedicated is not None:
                    style: Any = {"color": colour, "linewidth": 1.6, "linestyle": "--", "zorder": 4}
                    axis.axvline(dedicated, label=variant, **style)
        axis.set_xlabel("mIoU, %")
    _legend(figure, panels["val"][0])
    return figure


def contributions(results: Results) -> Figure | None:
    """Shapley contributions of image and DSM; they sum to the fused mIoU above that of the most frequent class."""
    height = 2.2 + 0.55 * len(results.fused)
    figure, panels = _panels(results, "contribution of each sensor (Shapley values)", height=height)
    for subset, (axis,) in panels.items():
        _bars(axis, results, subset, CONTRIBUTIONS)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xlabel("mIoU points above the most frequent class")
    _legend(figure, panels["val"][0])
    return figure


def _bars(axis: Axes, results: Results, subset: Subset, bars: Sequence[tuple[str, str, str]]) -> None:
    """A group of horizontal bars per variant with both sensors; `bars` has the label, figure and colour of each."""
    names, height = results.fused, 0.76 / len(bars)
    for number, (label, name, colour) in enumerate(bars):
        offset = (number - (len(bars) - 1) / 2) * height
        seeds = [results.values(variant, subset, name) for variant in names]
        places = [place + offset for place, values in enumerate(seeds) if values]
        axis.barh(places, [np.mean(v) for v in seeds if v], height=0.95 * height, color=colour, label=label)
        dots = [(value, place + offset) for place, values in enumerate(seeds) for value in values]
        xs, ys = np.array(dots).reshape(-1, 2).T
        axis.scatter(xs, ys, s=12, color="black", alpha=0.6, zorder=3, linewidths=0)
    axis.set_yticks(range(len(names)), names if subset == SUBSETS[0] else [""] * len(names))
    axis.invert_yaxis()


def failure(results: Results) -> Figure | None:
    """E(p) as a function of p: at 0 the fused mIoU, towards 1 the mean of the two single-sensor values."""
    figure, panels = _panels(results, "expected mIoU when each sensor fails with probability p")
    ps = np.linspace(0, 0.99, 100)
    for subset, (axis,) in panels.items():
        for variant in results.fused:
            three = [results.mean(variant, subset, name) for name in ("miou", "miou_rgb", "miou_dsm")]
            both, rgb, dsm = (np.nan if value is None else value for value in three)
            curve = [balance(both, rgb, dsm, 0.0, p).expected_miou for p in ps]
            axis.plot(ps, curve, color=_colour(results, variant), label=variant, linewidth=2)
        axis.axvline(results.protocol.failure_probability, color="black", linewidth=0.8, linestyle=":")
        axis.set(xlabel="p", ylabel="E(p), %", xlim=(0, 1))
    _legend(figure, panels["val"][0])
    return figure


def gates(results: Results) -> Figure | None:
    """Mean, standard deviation and saturated share of the gate by stage; None: no variant has gates."""
    gated = [variant for variant in results.fused if results.values(variant, "val", "gate_mean")]
    if not gated:
        return None
    figure, panels = _panels(results, "fusion gates by stage, both sensors present", rows=len(GATES), height=8.0)
    stages = (1, 2, 3, 4)
    for subset, axes in panels.items():
        for axis, (name, title) in zip(axes, GATES.items(), strict=True):
            for place, variant in enumerate(gated):
                seeds = np.array([results.values(variant, subset, f"{name}_{stage}") for stage in stages])
                colour, xs = _colour(results, variant), np.array(stages) + 0.05 * (place - (len(gated) - 1) / 2)
                axis.plot(xs, seeds.mean(axis=1), color=colour, marker="o", label=variant)
                axis.scatter(np.repeat(xs, seeds.shape[1]), seeds.ravel(), s=10, color=colour, alpha=0.5, linewidths=0)
            axis.set_xticks(stages)
            if subset == SUBSETS[0]:
                axis.set_ylabel(title)
        axes[0].axhline(0.5, color="black", linewidth=0.8, linestyle=":")
        axes[-1].set_xlabel("stage")
    _legend(figure, panels["val"][0])
    return figure


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


PLOTS: dict[str, Callable[[Results], Figure | None]] = {
    "fusion": fusion,
    "sensors": sensors,
    "contributions": contributions,
    "failure": failure,
    "gates": gates,
}
"""File name without extension -> function that draws the picture."""
