"""components/evaluate/interpretation.py: the verdict follows from the figures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from components.common.data.store import Store
from components.common.scoring.balance import balance
from components.common.scoring.metrics import scores
from components.evaluate import interpretation

CLASSES, IN_MEANS = ("road", "low_vegetation"), (True, True)


def record(v_both: float, v_rgb: float, v_dsm: float, matrices: dict | None = None) -> SimpleNamespace:
    """The parts of an Evaluation that the sentences depend on."""
    matrices = matrices or {"rgb+dsm": [[9, 1], [4, 6]], "rgb": [[9, 1], [5, 5]], "dsm": [[9, 1], [5, 5]]}
    found = {name: scores(np.array(m), CLASSES, IN_MEANS) for name, m in matrices.items()}
    return SimpleNamespace(
        balance=balance(v_both, v_rgb, v_dsm, 6.0, 0.1),
        scores={"eroded": found},
        headline=next(iter(found.values())),
        conditions=tuple(found),
        protocol=SimpleNamespace(ground_truth="eroded"),
    )


@pytest.mark.parametrize(
    ("v", "title"),
    [
        ((80, 65, 60), "Balanced: both sensors contribute"),
        ((80, 75, 40), "The model leans on the image"),
        ((80, 40, 75), "The model leans on the DSM"),
        ((80, 75, 12), "The model depends on the image"),
        ((78, 78, 6), "The model does not use the DSM"),
        ((78, 6, 78), "The model does not use the image"),
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
