"""components/evaluate/interpretation.py: the verdict follows from the figures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from components.common.data.store import Store
from components.common.scoring.balance import balance
from components.common.scoring.metrics import scores
from components.evaluate import interpretation, report_tables

CLASSES, IN_MEANS = ("road", "low_vegetation"), (True, True)


def intervals(differences: dict, figures: dict | None = None) -> SimpleNamespace:
    """The parts of the record's intervals that the sentences depend on."""
    found = {name: SimpleNamespace(value=v, low=low, high=high) for name, (v, low, high) in differences.items()}
    return SimpleNamespace(differences=found, figures=figures or {})


def record(
    v_both: float,
    v_rgb: float,
    v_dsm: float,
    matrices: dict | None = None,
    known: SimpleNamespace | None = None,
    dsm_tiles: tuple[str, ...] = ("a", "b"),
) -> SimpleNamespace:
    """The parts of an Evaluation that the sentences depend on."""
    matrices = matrices or {"rgb+dsm": [[9, 1], [4, 6]], "rgb": [[9, 1], [5, 5]], "dsm": [[9, 1], [5, 5]]}
    found = {name: scores(np.array(m), CLASSES, IN_MEANS) for name, m in matrices.items()}
    return SimpleNamespace(
        balance=balance(v_both, v_rgb, v_dsm, 6.0, 0.1),
        scores={"eroded": found},
        headline=next(iter(found.values())),
        conditions=tuple(found),
        protocol=SimpleNamespace(
            ground_truth="eroded",
            model=SimpleNamespace(modalities=("rgb", "dsm")),
            tiles=("a", "b"),
            tiles_by_condition={name: ("a", "b") if name == "rgb" else dsm_tiles for name in found},
        ),
        intervals=known,
    )


@pytest.mark.parametrize(
    ("v", "title"),
    [
        ((80, 65, 60), "Balanced: both sensors contribute"),
        ((80, 40, 40), "Balanced: both sensors contribute"),
        ((80, 39.9, 50), "Fails without the DSM"),
        ((80, 50, 39.9), "Fails without the image"),
        ((92, 44, 32), "Fails without the DSM and without the image"),
        ((80, 75, 45), "The model leans on the image"),
        ((80, 45, 75), "The model leans on the DSM"),
        ((80, 70, 39), "Fails without the image: the model leans on the image"),
        ((80, 75, 12), "Fails without the image: the model depends on the image"),
        ((20, 19, 10), "The model depends on the image"),
        ((78, 78, 6), "Fails without the image: the model does not use the DSM"),
        ((78, 6, 78), "Fails without the DSM: the model does not use the image"),
        ((6.5, 6, 6), "The model has learned almost nothing"),
    ],
)
def test_the_title_is_what_the_figures_say(v: tuple[float, float, float], title: str) -> None:
    assert interpretation.verdict(record(*v)).title == title


def test_the_headline_names_all_three_conditions() -> None:
    assert interpretation.headline(record(80, 65, 60)) == (
        "80.0 mIoU with both sensors, 65.0 when the DSM is missing, 60.0 when the image is missing."
    )


@pytest.mark.parametrize(
    ("v", "sentence"),
    [
        ((80, 70, 60), "Fusion gains 10.0 points over the image only."),
        ((70, 60, 75), "Fusion loses 5.0 points against the DSM only"),
        ((70, 69.8, 60), "The gain of fusion over the image only is within the noise (+0.2 points)"),
        ((80, 70, 30), "do not use the maps where the image is missing"),
        ((80, 30, 30), "do not use the maps where the DSM or the image is missing"),
    ],
)
def test_gain_and_collapse_are_reported(v: tuple[float, float, float], sentence: str) -> None:
    assert sentence in " ".join(interpretation.verdict(record(*v)).sentences)


@pytest.mark.parametrize(
    ("v", "interval", "sentence"),
    [
        ((80, 70, 60), (8.5, 11.5), "Fusion gains 10.0 points (+8.5 to +11.5) over the image only."),
        ((80, 79, 60), (-0.5, 2.5), "over the image only is within the noise (+1.0, -0.5 to +2.5)."),
        ((80, 79.8, 60), (0.1, 0.3), "Fusion gains 0.2 points (+0.1 to +0.3) over the image only."),
        ((70, 60, 75), (-7, -3), "Fusion loses 5.0 points (-7.0 to -3.0) against the DSM only"),
    ],
)
def test_the_interval_decides_what_is_noise(v: tuple, interval: tuple, sentence: str) -> None:
    name = "rgb+dsm - rgb" if v[1] >= v[2] else "rgb+dsm - dsm"
    known = intervals({name: (v[0] - max(v[1:]), *interval)})
    assert sentence in " ".join(interpretation.verdict(record(*v, known=known)).sentences)


def test_a_difference_of_few_blocks_still_compares_the_same_pixels() -> None:
    known = intervals({"rgb+dsm - rgb": (-3.0, None, None)})
    found = record(80, 79, 60, known=known, dsm_tiles=("a",))
    assert "Fusion loses 3.0 points against the image only" in " ".join(interpretation.verdict(found).sentences)
    row, *_ = report_tables.differences(found)
    assert row == report_tables.Difference("Both sensors minus image only", -3.0, "", noise=False)


def test_scores_of_different_tiles_harm_no_class() -> None:
    matrices = {"rgb+dsm": [[9, 1], [4, 6]], "rgb": [[9, 1], [1, 9]], "dsm": [[9, 1], [5, 5]]}
    for tiles, said in ((("a", "b"), True), (("a",), False)):
        sentences = interpretation.verdict(record(80, 65, 60, matrices, dsm_tiles=tiles)).sentences
        assert any("Fusion harms" in sentence for sentence in sentences) is said


def test_a_class_is_harmed_only_beyond_its_intervals() -> None:
    matrices = {"rgb+dsm": [[9, 1], [4, 6]], "rgb": [[9, 1], [1, 9]], "dsm": [[9, 1], [5, 5]]}
    for low, said in ((60.0, True), (50.0, False)):
        figures = {"iou/rgb+dsm/low_vegetation": (45.0, 55.0), "iou/rgb/low_vegetation": (low, 90.0)}
        sentences = interpretation.verdict(record(80, 65, 60, matrices, intervals({}, figures))).sentences
        assert any("Fusion harms low vegetation" in sentence for sentence in sentences) is said


def test_without_a_score_for_both_sensors_nothing_is_called_balanced() -> None:
    alone = record(80, 65, 60, {"rgb": [[9, 1], [4, 6]], "dsm": [[9, 1], [5, 5]]})
    alone.balance = None
    assert interpretation.verdict(alone).title == "No comparison of the sensors"
    assert interpretation.headline(alone) == (
        "59.4 mIoU with the image only, 52.7 mIoU with the DSM only; "
        "too few test tiles have both sensors to compare them."
    )


def test_the_weakest_class_and_a_harmed_one_are_named() -> None:
    matrices = {"rgb+dsm": [[9, 1], [4, 6]], "rgb": [[9, 1], [1, 9]], "dsm": [[9, 1], [5, 5]]}
    sentences = interpretation.verdict(record(80, 65, 60, matrices)).sentences
    assert "The weakest class is low vegetation, with an IoU of 54.5." in sentences
    assert "Fusion harms low vegetation: IoU 54.5 with both, 81.8 with the image only." in sentences


def test_warnings_name_tiles_and_amounts(make_store, facts_for) -> None:
    store = make_store()
    data, facts = Store(store), facts_for(store)
    entries = list(data.manifest.subset("test"))
    entries[0] = replace(entries[0], unknown_px=1234, dsm_missing_share=0.02)
    entries[1] = replace(entries[1], snapped_px=7)
    found = interpretation.data_warnings(data.manifest, data.data_md5, facts, entries)
    assert "Label pixels of unknown colour are ignored: 1,234 of tile 5_10." in found
    assert "Label pixels were set to the nearest palette colour: 7 of tile 5_11." in found
    assert "Heights are missing: 2.0 % of tile 5_10." in found
    assert "No test tile contains car." in found and "No test tile contains building." not in found


def test_clean_benchmark_data_need_no_warning(make_store, facts_for) -> None:
    store = make_store(source="isprs")
    data, facts = Store(store), facts_for(store)
    entries = [replace(entry, class_px=(1, 1, 1, 1, 1, 1)) for entry in data.manifest.subset("test")]
    assert interpretation.data_warnings(data.manifest, data.data_md5, facts, entries) == ()
    assert len(interpretation.data_warnings(data.manifest, "other", facts, entries)) == 1
