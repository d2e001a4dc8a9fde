"""The findings in plain words: a headline, a verdict on the balance of the sensors, warnings about the data.

In: an `Evaluation`, a `Manifest`. Out: sentences. The limits that choose the words are the constants below, and in
docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.common.data.store import Manifest, TileEntry
from components.common.inference.modelfile import ModelFacts
from components.common.scoring.balance import Balance
from components.evaluate.record import Evaluation

TITLES = {"rgb+dsm": "Both sensors", "rgb": "Image only", "dsm": "DSM only"}
SENSORS = {"rgb": "image", "dsm": "DSM"}

EVEN, LEANING = 0.25, 0.6
"""Imbalance below the first: balanced; below the second: leans on one sensor; from there on: depends on it."""

UNUSED_POINTS = 1.0
"""A sensor that earns less than this is not used."""

NOISE_POINTS = 0.5
"""Differences below this are within the noise between two trainings."""

COLLAPSE = 0.5
"""Below this share of the fused mIoU, the network has collapsed without a sensor."""

MISSING_DSM_SHARE = 0.01
"""Share of unmeasured heights from which a tile is worth a warning."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding: a few words, and the sentences that back them."""

    title: str
    sentences: tuple[str, ...]


def headline(record: Evaluation) -> str:
    """One sentence that says how good the network is and what happens when a sensor is missing."""
    if record.balance is None:
        modality = record.conditions[0]
        return f"{record.headline.miou:.1f} mIoU from the {SENSORS[modality]} alone; this network uses no other sensor."
    both, rgb, dsm = record.balance.both, record.balance.rgb, record.balance.dsm
    return f"{both:.1f} mIoU with both sensors, {rgb:.1f} when the DSM is missing, {dsm:.1f} when the image is missing."


def expectation(figures: Balance) -> str:
    """What to expect where sensors fail."""
    p = f"{100 * figures.failure_probability:g}\N{NO-BREAK SPACE}%"
    return f"Where each sensor fails with a probability of {p}, expect {figures.expected_miou:.1f} mIoU."


def verdict(record: Evaluation) -> Verdict:
    """Whether both sensors are used, what fusing brings, how the network fares without one, and where it is weak."""
    weakest = _weakest(record)
    if record.balance is None:
        return Verdict(
            "One sensor by design", (f"There is no balance to judge in a single-modality network. {weakest}",)
        )
    figures = record.balance
    sentences = (_earned(figures), _gain(figures), _robustness(figures), weakest, *_harmed(record))
    return Verdict(_title(figures), sentences)


def _title(figures: Balance) -> str:
    strong, weak = ("rgb", "dsm") if figures.shapley_rgb >= figures.shapley_dsm else ("dsm", "rgb")
    least = min(figures.shapley_rgb, figures.shapley_dsm)
    if not figures.both - figures.majority > UNUSED_POINTS:
        return "It has learned next to nothing"
    if least < UNUSED_POINTS:
        return f"It does not use the {SENSORS[weak]}"
    if figures.imbalance < EVEN:
        return "Balanced: both sensors carry weight"
    if figures.imbalance < LEANING:
        return f"It leans on the {SENSORS[strong]}"
    return f"It depends on the {SENSORS[strong]}"


def _earned(figures: Balance) -> str:
    return (
        f"Above the {figures.majority:.1f} mIoU of always answering the commonest class, the image earns "
        f"{figures.shapley_rgb:.1f} points and the DSM {figures.shapley_dsm:.1f}."
    )


def _gain(figures: Balance) -> str:
    better = "image" if figures.rgb >= figures.dsm else "DSM"
    gain = figures.fusion_gain
    if gain > NOISE_POINTS:
        return f"Fusing them adds {gain:.1f} points over the {better} alone."
    if gain < -NOISE_POINTS:
        return f"Fusing them costs {-gain:.1f} points against the {better} alone: the other sensor does harm here."
    return f"Fusing them adds nothing that stands out from noise over the {better} alone ({gain:+.1f} points)."


def _robustness(figures: Balance) -> str:
    kept = {"DSM": figures.retention_rgb, "image": figures.retention_dsm}
    shares = " and ".join(
        f"{100 * share:.0f}\N{NO-BREAK SPACE}% without the {sensor}" for sensor, share in kept.items()
    )
    collapsed = [sensor for sensor, share in kept.items() if share < COLLAPSE]
    advice = f"; do not trust its maps where the {' or the '.join(collapsed)} is missing" if collapsed else ""
    return f"Of its mIoU it keeps {shares}{advice}."


def _weakest(record: Evaluation) -> str:
    best = record.headline
    if best.worst_class is None:
        return "No class that counts occurs in the test tiles."
    return (
        f"The weakest class is {spoken(best.worst_class)}, with an IoU of {best.per_class[best.worst_class].iou:.1f}."
    )


def _harmed(record: Evaluation) -> list[str]:
    """One sentence per class that a single sensor finds better than both together."""
    both, *single = record.scores[record.protocol.ground_truth].values()
    found = []
    for name, scores in both.per_class.items():
        alone, sensor = max((s.per_class[name].iou, sensor) for s, sensor in zip(single, ("image", "DSM"), strict=True))
        if alone > scores.iou + NOISE_POINTS:
            found.append(
                f"Fusing harms {spoken(name)}: {scores.iou:.1f} with both, {alone:.1f} with the {sensor} alone."
            )
    return found


def spoken(class_name: str) -> str:
    """A class name as a reader would say it: `low_vegetation` -> `low vegetation`."""
    return class_name.replace("_", " ")


def data_warnings(
    manifest: Manifest, data_md5: str, facts: ModelFacts, entries: Sequence[TileEntry]
) -> tuple[str, ...]:
    """What a reader should know about the data behind the figures; `entries` are the tiles that were scored."""
    return (*_provenance(manifest, data_md5, facts), *_flaws(entries), *_absent(facts, entries))


def _provenance(manifest: Manifest, data_md5: str, facts: ModelFacts) -> list[str]:
    found = []
    if data_md5 != facts.data_md5:
        found.append(
            f"The model was trained on another version of the data: {facts.data_md5} then, {data_md5} in the store now."
        )
    if manifest.heights != facts.heights:
        found.append("The heights of the store are scaled in another way than those that the model was trained on.")
    if manifest.source == "sample":
        found.append("The data are a generated city: these figures say nothing about real aerial images.")
    return found


def _flaws(entries: Sequence[TileEntry]) -> list[str]:
    unknown = {entry.id: f"{entry.unknown_px:,}" for entry in entries if entry.unknown_px}
    snapped = {entry.id: f"{entry.snapped_px:,}" for entry in entries if entry.snapped_px}
    holes = {
        entry.id: f"{100 * entry.dsm_missing_share:.1f} %"
        for entry in entries
        if entry.dsm_missing_share >= MISSING_DSM_SHARE
    }
    kinds = {
        "Label pixels of unknown colour were left out": unknown,
        "Label pixels were snapped to the nearest palette colour": snapped,
        "Heights were not measured": holes,
    }
    return [
        f"{what}: {', '.join(f'{amount} of tile {tile}' for tile, amount in found.items())}."
        for what, found in kinds.items()
        if found
    ]


def _absent(facts: ModelFacts, entries: Sequence[TileEntry]) -> list[str]:
    total_K = [sum(counts) for counts in zip(*(entry.class_px for entry in entries), strict=True)]
    return [f"No test tile holds {spoken(name)}." for name, px in zip(facts.classes, total_K, strict=True) if not px]
