"""components/evaluate/record.py: the numbers that DVC and MLflow compare."""

import json
from types import SimpleNamespace

import numpy as np

from components.common.scoring.metrics import as_json
from components.evaluate.config import EvaluateConfig
from components.evaluate.record import comparable_metrics, evaluation
from components.evaluate.step import run

CONFIG = EvaluateConfig(window_px=16, stride_px=16, batch_size=8, failure_probability=0.2, panel_px=64)


def test_comparable_metrics_are_the_figures_of_the_record(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    record = run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports").evaluation
    numbers = comparable_metrics(record)
    figures = as_json(record.balance)
    assert {name: numbers[name] for name in ("expected_miou", "last_1", "imbalance")} == {
        name: figures[name] for name in ("expected_miou", "last_1", "imbalance")
    }
    assert numbers["worst_class_iou"] == 100.0 and numbers["miou_dsm"] == figures["dsm"]
    assert set(numbers).isdisjoint({"failure_probability", "both"})


def test_the_commonest_class_earns_nothing_when_it_counts_in_no_mean(make_store, facts_for) -> None:
    counts_KK = np.diag([30, 10, 0, 0, 0, 60])  # clutter is the most frequent
    totals = {name: {"eroded": counts_KK, "full": counts_KK} for name in ("rgb+dsm", "rgb", "dsm")}
    found = evaluation(totals, facts_for(make_store()), SimpleNamespace(ground_truth="eroded"), 0.1, ())
    assert (found.balance.majority, found.balance.both) == (0.0, 100.0)


def test_what_is_not_defined_is_left_out(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    record = run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports").evaluation
    content = as_json(record)
    assert content["scores"]["full"]["rgb"]["per_class"]["car"]["iou"] is None
    json.dumps(content, allow_nan=False)
    assert None not in comparable_metrics(record).values()
