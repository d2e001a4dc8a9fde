"""Results of a study: figures of every training, means and standard deviations, the chosen variant, the protocol.

A study may contain networks of one sensor. They have one figure that is comparable, the mIoU with this sensor, and show
how much of it a network for both sensors reaches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.common.data.datasets import Subset
from components.common.data.store import Store
from components.common.files import without_nan
from components.common.scoring.balance import Candidate, select
from components.common.scoring.conditions import GROUND_TRUTH
from components.common.tracking.provenance import tool_version
from model.config import Modality
from pipeline.ablation.computation import passes
from pipeline.ablation.studies import Job, Study
from pipeline.ablation.trainings import SUBSETS, Result, Setting

SUBSET_TITLES: dict[Subset, str] = {"val": "Validation tiles", "test": "Test tiles"}
SENSORS: dict[Modality, str] = {"rgb": "image", "dsm": "DSM"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides which figures of a variant are comparable."""

    modalities: tuple[Modality, ...]  # sensors of the network
    steps: int  # optimiser steps
    passes: int  # passes of crops through a stream of the backbone, see `computation.passes`


@dataclass(frozen=True, slots=True)
class Share:
    """How much a network for both sensors reaches of a network that was trained for one, with equally many steps."""

    subset: Subset
    variant: str
    sensor: Modality  # the only sensor that both networks get
    miou: float  # of the variant, mean over the seeds, percent points
    dedicated: str  # variant of the network for this sensor
    dedicated_miou: float  # its mIoU, mean over the seeds, percent points
    share: float  # miou / dedicated_miou

    @property
    def text(self) -> str:
        """The share with its two figures."""
        return (
            f"with the {SENSORS[self.sensor]} {100 * self.share:.1f} % of {self.dedicated} "
            f"({self.miou:.1f} of {self.dedicated_miou:.1f})"
        )


@dataclass(frozen=True, slots=True)
class Protocol:
    """How all trainings of the study were trained and measured."""

    dataset: str
    source: str
    split: str
    data_md5: str
    tiles: dict[str, tuple[str, ...]]  # subset -> ids of the tiles
    ground_truth: str
    mean_classes: tuple[str, ...]
    window_px: tuple[int, ...]  # one value, unless variants train with different crops
    stride_px: int
    failure_probability: float
    guard: float
    backbone: str
    weights: str
    steps: tuple[int, ...]  # one value, unless variants train for different numbers of steps
    seeds: tuple[int, ...]
    git_commits: tuple[str, ...]  # commits of the code that trained
    tool_version: str

    @property
    def sentence(self) -> str:
        """The protocol on one line, for a caption."""
        tiles = "; ".join(f"{SUBSET_TITLES[s].lower()} {', '.join(self.tiles[s])}" for s in SUBSETS)
        windows, steps, seeds = (", ".join(map(str, values)) for values in (self.window_px, self.steps, self.seeds))
        commits = ", ".join(commit[:7] for commit in self.git_commits)
        generated = " (generated)" if self.source == "sample" else ""
        return (
            f"{self.dataset}{generated}, split {self.split}, data version {self.data_md5[:12]}; {tiles}; "
            f"{self.ground_truth} ground truth, mIoU over {len(self.mean_classes)} classes, window {windows} px, "
            f"stride {self.stride_px} px; {self.backbone} (weights: {self.weights}), {steps} steps, "
            f"seeds {seeds}; commit {commits}"
        )


@dataclass(frozen=True, slots=True)
class Results:
    """A measured study."""

    study: str
    about: str
    protocol: Protocol
    variants: dict[str, Any]  # name -> changes; the others are compared with the first
    recipes: dict[str, Recipe]  # by variant
    runs: list[Result]

    def values(self, variant: str, subset: Subset, figure: str) -> list[float]:
        """The values of a figure, one per seed that has it. A network of one sensor has only its mIoU."""
        modalities = self.recipes[variant].modalities
        if len(modalities) == 1:
            if figure != f"miou_{modalities[0]}":
                return []
            figure = "miou"  # the name of the mIoU with all sensors of a network
        rows = (run.figures[subset] for run in self.runs if run.variant == variant)
        return [row[figure] for row in rows if math.isfinite(row.get(figure, math.nan))]

    def mean(self, variant: str, subset: Subset, figure: str) -> float | None:
        """Mean over the seeds; None: undefined for this variant."""
        values = self.values(variant, subset, figure)
        return statistics.fmean(values) if values else None

    def std(self, variant: str, subset: Subset, figure: str) -> float | None:
        """Sample standard deviation over the seeds (n - 1); None: fewer than two seeds."""
        values = self.values(variant, subset, figure)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def fused(self) -> list[str]:
        """Variants with both sensors."""
        return [name for name, recipe in self.recipes.items() if len(recipe.modalities) > 1]

    @property
    def chosen(self) -> str:
        """The best variant with both sensors, by the rule that also selects checkpoints (`select`).

        If no variant has both sensors, the one with the highest mIoU.
        """
        names, figures = self.fused, ("miou", "expected_miou")
        if not names:
            names, figures = list(self.variants), ("miou_rgb", "miou_dsm")
        means = [[self.mean(name, "val", figure) or 0.0 for figure in figures] for name in names]
        pairs = means if self.fused else [(max(pair), max(pair)) for pair in means]
        candidates = [Candidate(place, *pair) for place, pair in enumerate(pairs)]
        return names[select(candidates, self.protocol.guard).step]

    @property
    def rule(self) -> str:
        """The selection rule and the chosen variant, as a sentence."""
        p, guard = self.protocol.failure_probability, self.protocol.guard
        over = "(means over the seeds, validation tiles)"
        if not self.fused:
            return f"Highest mIoU {over}: {self.chosen}."
        return (
            f"Highest E({p:g}) of the variants whose fused mIoU is within {guard:g} of the best {over}: {self.chosen}."
        )

    def shares(self, subset: Subset) -> list[Share]:
        """What every variant with both sensors reaches of each network for one sensor with equally many steps."""
        found = []
        for variant in self.fused:
            for name, recipe in self.recipes.items():
                if len(recipe.modalities) > 1 or recipe.steps != self.recipes[variant].steps:
                    continue
                sensor = recipe.modalities[0]
                own, dedicated = (self.mean(v, subset, f"miou_{sensor}") for v in (variant, name))
                if own is not None and dedicated:
                    found.append(Share(subset, variant, sensor, own, name, dedicated, own / dedicated))
        return found

    def document(self) -> dict[str, Any]:
        """All results as JSON content."""
        shares = [asdict(share) for subset in SUBSETS for share in self.shares(subset)]
        content: dict[str, Any] = asdict(self) | {"rule": self.rule, "chosen": self.chosen, "shares": shares}
        return without_nan(content)


def collect(name: str, study: Study, jobs: Sequence[Job], setting: Setting, runs: list[Result]) -> Results:
    """Combine the results of a study with its protocol."""
    store, first = Store(setting.store), jobs[0]
    manifest = store.manifest
    protocol = Protocol(
        dataset=manifest.dataset,
        source=manifest.source,
        split=manifest.split,
        data_md5=store.data_md5,
        tiles={subset: tuple(entry.id for entry in manifest.subset(subset)) for subset in SUBSETS},
        ground_truth=GROUND_TRUTH,
        mean_classes=tuple(c for c, counts in zip(manifest.classes, manifest.in_means, strict=True) if counts),
        window_px=tuple(sorted({run.window_px for run in runs})),
        stride_px=setting.evaluate.stride_px,
        failure_probability=setting.evaluate.failure_probability,
        guard=first.train.validation.guard,
        backbone=first.model.backbone,
        weights=first.model.weights,
        steps=tuple(sorted({job.train.steps for job in jobs})),
        seeds=tuple(sorted({run.seed for run in runs})),
        git_commits=tuple(sorted({run.git_commit for run in runs})),
        tool_version=tool_version(),
    )
    recipes = {j.variant: Recipe(j.model.modalities, j.train.steps, passes(j.train, j.model)) for j in jobs}
    return Results(name, study.about, protocol, study.variants, recipes, runs)
