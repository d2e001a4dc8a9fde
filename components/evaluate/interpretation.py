"""The findings as sentences: a headline, a verdict on the balance of the sensors, warnings about the data.

In: an `Evaluation`, a `Manifest`. Out: sentences. The constants below set the limits between verdicts;
docs/evaluation.md lists them.
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
"""Imbalance below EVEN: balanced; below LEANING: leans on one sensor; from LEANING on: depends on it."""

UNUSED_POINTS = 1.0
"""A sensor whose contribution is below this is not used, percent points."""

NOISE_POINTS = 0.5
"""Without intervals, differences below this are within the noise between two trainings, percent points."""

COLLAPSE = 0.5
"""Retention below this means that the network fails without the sensor, 0..1."""

MISSING_DSM_SHARE = 0.01
"""Share of unmeasured heights from which a tile gets a warning, 0..1."""

UNKNOWN_DATA = "unknown"
"""Data version of a model that `mobanet model import` made: the checkpoint does not say what it was trained on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding: a title and the sentences that explain it."""

    title: str
    sentences: tuple[str, ...]


def headline(record: Evaluation) -> str:
    """One sentence: the mIoU with all sensors and with each sensor missing."""
    if record.balance is None:
        first, *others = (
            f"{scores.miou:.1f} mIoU with the {SENSORS[name]} only"
            for name, scores in record.scores[record.protocol.ground_truth].items()
        )
        return f"{', '.join((first, *others))}; {_why_alone(record)}."
    both, rgb, dsm = record.balance.both, record.balance.rgb, record.balance.dsm
    where = "" if same_tiles(record) else ", on the tiles that have both"
    return (
        f"{both:.1f} mIoU with both sensors, {rgb:.1f} when the DSM is missing, {dsm:.1f} when the image is "
        f"missing{where}."
    )


def _why_alone(record: Evaluation) -> str:
    if len(record.protocol.model.modalities) > 1:
        return "too few test tiles have both sensors to compare them"
    return "this network has no other sensor"


def expectation(figures: Balance) -> str:
    """One sentence: the mIoU to expect if sensors can fail."""
    p = f"{100 * figures.failure_probability:g}\N{NO-BREAK SPACE}%"
    return f"If each sensor fails with a probability of {p}, expect {figures.expected_miou:.1f} mIoU."


def verdict(record: Evaluation) -> Verdict:
    """Whether both sensors are used, the gain of fusion, the loss without a sensor, and the weakest class."""
    weakest = _weakest(record)
    if record.balance is None:
        title = "One sensor by design" if len(record.protocol.model.modalities) == 1 else "No comparison of the sensors"
        return Verdict(title, (f"Without a score for both sensors there are no balance figures. {weakest}",))
    figures = record.balance
    sentences = (_earned(figures), _gain(record, figures), _robustness(figures), weakest, *_harmed(record))
    return Verdict(_title(figures), sentences)


def _title(figures: Balance) -> str:
    """The worst finding first: a network that fails without a sensor is not called balanced."""
    strong, weak = ("rgb", "dsm") if figures.shapley_rgb >= figures.shapley_dsm else ("dsm", "rgb")
    if not figures.both - figures.majority > UNUSED_POINTS:
        return "The model has learned almost nothing"
    if min(figures.shapley_rgb, figures.shapley_dsm) < UNUSED_POINTS:
        character = f"the model does not use the {SENSORS[weak]}"
    elif figures.imbalance < EVEN:
        character = ""
    elif figures.imbalance < LEANING:
        character = f"the model leans on the {SENSORS[strong]}"
    else:
        character = f"the model depends on the {SENSORS[strong]}"
    missing = " and without the ".join(_collapsed(figures))
    if missing:
        return f"Fails without the {missing}{': ' if character else ''}{character}"
    return f"{character[0].upper()}{character[1:]}" if character else "Balanced: both sensors contribute"


def _collapsed(figures: Balance) -> list[str]:
    """Sensors without which the network loses more than half."""
    kept = {"DSM": figures.retention_rgb, "image": figures.retention_dsm}
    return [sensor for sensor, share in kept.items() if share < COLLAPSE]


def _earned(figures: Balance) -> str:
    return (
        f"Always predicting the most frequent class gives {figures.majority:.1f} mIoU. The image adds "
        f"{figures.shapley_rgb:.1f} points to that, and the DSM {figures.shapley_dsm:.1f}."
    )


def _gain(record: Evaluation, figures: Balance) -> str:
    better, sensor = ("rgb", "image") if figures.rgb >= figures.dsm else ("dsm", "DSM")
    known, low, high = difference(record, f"rgb+dsm - {better}") or (figures.fusion_gain, None, None)
    gain, spread, exact = known, "", f"{known:+.1f} points"
    if low is None or high is None:
        low, high = gain - NOISE_POINTS, gain + NOISE_POINTS
    else:
        spread, exact = f" ({between(low, high, signed=True)})", f"{gain:+.1f}, {between(low, high, signed=True)}"
    if low > 0:
        return f"Fusion gains {gain:.1f} points{spread} over the {sensor} only."
    if high < 0:
        return f"Fusion loses {-gain:.1f} points{spread} against the {sensor} only: the other sensor does harm."
    return f"The gain of fusion over the {sensor} only is within the noise ({exact})."


def difference(record: Evaluation, name: str) -> tuple[float, float | None, float | None] | None:
    """A difference between two conditions on the same pixels, percent points; None: it is not known.

    Its two ends are None if there is no interval.
    """
    found = record.intervals.differences.get(name) if record.intervals else None
    return None if found is None or found.value is None else (found.value, found.low, found.high)


def same_tiles(record: Evaluation) -> bool:
    """Whether every tile counts under every condition."""
    tiles = record.protocol.tiles_by_condition
    return all(len(tiles.get(condition, ())) == len(record.protocol.tiles) for condition in record.conditions)


def interval(record: Evaluation, name: str) -> tuple[float, float] | None:
    """Interval of a figure, such as `miou/rgb`, percent points; None: there is none."""
    return record.intervals.figures.get(name) if record.intervals else None


def between(low: float, high: float, *, signed: bool = False) -> str:
    """An interval as text: `85.9 to 90.0`, `-0.3 to +0.8`."""
    sign = "+" if signed else ""
    return f"{low:{sign}.1f} to {high:{sign}.1f}"


def _robustness(figures: Balance) -> str:
    kept = {"DSM": figures.retention_rgb, "image": figures.retention_dsm}
    shares = " and ".join(
        f"{100 * share:.0f}\N{NO-BREAK SPACE}% without the {sensor}" for sensor, share in kept.items()
    )
    collapsed = _collapsed(figures)
    advice = f"; do not use the maps where the {' or the '.join(collapsed)} is missing" if collapsed else ""
    return f"The retained mIoU is {shares}{advice}."


def _weakest(record: Evaluation) -> str:
    best = record.headline
    if best.worst_class is None:
        return "The test tiles contain no class that counts in the means."
    return (
        f"The weakest class is {spoken(best.worst_class)}, with an IoU of {best.per_class[best.worst_class].iou:.1f}."
    )


def _harmed(record: Evaluation) -> list[str]:
    """One sentence per class that a single sensor segments better than both together, beyond the noise.

    None if the conditions have different tiles: their scores by class are not comparable.
    """
    if not same_tiles(record):
        return []
    both, *single = record.scores[record.protocol.ground_truth].items()
    found = []
    for name, scores in both[1].per_class.items():
        alone, condition = max((s.per_class[name].iou, condition) for condition, s in single)
        ours, theirs = interval(record, f"iou/{both[0]}/{name}"), interval(record, f"iou/{condition}/{name}")
        overlap = ours is not None and theirs is not None and theirs[0] <= ours[1]
        if alone > scores.iou + NOISE_POINTS and not overlap:
            found.append(
                f"Fusion harms {spoken(name)}: IoU {scores.iou:.1f} with both, {alone:.1f} with the "
                f"{SENSORS[condition]} only."
            )
    return found


def spoken(class_name: str) -> str:
    """A class name as text: `low_vegetation` -> `low vegetation`."""
    return class_name.replace("_", " ")


def data_warnings(
    manifest: Manifest, data_md5: str, facts: ModelFacts, entries: Sequence[TileEntry]
) -> tuple[str, ...]:
    """Sentences about problems of the data behind the figures; `entries` are the scored tiles."""
    return (*_provenance(manifest, data_md5, facts), *_flaws(entries), *_absent(facts, entries))


def _provenance(manifest: Manifest, data_md5: str, facts: ModelFacts) -> list[str]:
    found = []
    if facts.data_md5 == UNKNOWN_DATA:
        found.append(
            "The training data are unknown, because the model was imported: the scored tiles may be among them, and "
            "then the figures are too high."
        )
    elif data_md5 != facts.data_md5:
        found.append(f"The model was trained on another data version: {facts.data_md5}. The store has {data_md5}.")
    if manifest.source == "sample":
        found.append("The data is a generated city: these figures do not apply to real aerial images.")
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
        "Label pixels of unknown colour are ignored": unknown,
        "Label pixels were set to the nearest palette colour": snapped,
        "Heights are missing": holes,
    }
    return [
        f"{what}: {', '.join(f'{amount} of tile {tile}' for tile, amount in found.items())}."
        for what, found in kinds.items()
        if found
    ]


def _absent(facts: ModelFacts, entries: Sequence[TileEntry]) -> list[str]:
    total_K = [sum(counts) for counts in zip(*(entry.class_px for entry in entries), strict=True)]
    return [f"No test tile contains {spoken(name)}." for name, px in zip(facts.classes, total_K, strict=True) if not px]
