"""Results of a study: figures of every training, means and standard deviations, the chosen variant, the protocol."""

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
from pipeline.ablation.studies import Job, Study
from pipeline.ablation.trainings import SUBSETS, Result, Setting

SUBSET_TITLES: dict[Subset, str] = {"val": "Validation tiles", "test": "Test tiles"}


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
    steps: int
    seeds: tuple[int, ...]
    git_commits: tuple[str, ...]  # commits of the code that trained
    tool_version: str

    @property
    def sentence(self) -> str:
        """The protocol on one line, for a caption."""
        tiles = "; ".join(f"{SUBSET_TITLES[s].lower()} {', '.join(self.tiles[s])}" for s in SUBSETS)
        windows, seeds = (", ".join(map(str, values)) for values in (self.window_px, self.seeds))
        commits = ", ".join(commit[:7] for commit in self.git_commits)
        generated = " (generated)" if self.source == "sample" else ""
        return (
            f"{self.dataset}{generated}, split {self.split}, data version {self.data_md5[:12]}; {tiles}; "
            f"{self.ground_truth} ground truth, mIoU over {len(self.mean_classes)} classes, window {windows} px, "
            f"stride {self.stride_px} px; {self.backbone} (weights: {self.weights}), {self.steps} steps, "
            f"seeds {seeds}; commit {commits}"
        )


@dataclass(frozen=True, slots=True)
class Results:
    """A measured study."""

    study: str
    about: str
    protocol: Protocol
    variants: dict[str, Any]  # name -> changes; the others are compared with the first
    runs: list[Result]

    def values(self, variant: str, subset: Subset, figure: str) -> list[float]:
        """The values of a figure, one per seed that has it."""
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
    def chosen(self) -> str:
        """The best variant, by the rule that also selects checkpoints (`select`)."""
        names = list(self.variants)
        means = [[self.mean(name, "val", figure) or 0.0 for figure in ("miou", "expected_miou")] for name in names]
        candidates = [Candidate(place, *pair) for place, pair in enumerate(means)]
        return names[select(candidates, self.protocol.guard).step]

    @property
    def rule(self) -> str:
        """The selection rule and the chosen variant, as a sentence."""
        p, guard = self.protocol.failure_probability, self.protocol.guard
        return (
            f"Highest E({p:g}) of the variants whose fused mIoU is within {guard:g} of the best (means over the seeds, "
            f"validation tiles): {self.chosen}."
        )

    def document(self) -> dict[str, Any]:
        """All results as JSON content."""
        content: dict[str, Any] = without_nan(asdict(self) | {"rule": self.rule, "chosen": self.chosen})
        return content


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
        steps=first.train.steps,
        seeds=tuple(sorted({run.seed for run in runs})),
        git_commits=tuple(sorted({run.git_commit for run in runs})),
        tool_version=tool_version(),
    )
    return Results(name, study.about, protocol, study.variants, runs)
