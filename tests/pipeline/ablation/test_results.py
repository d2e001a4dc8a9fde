from __future__ import annotations

import json

import pytest


def test_the_best_expectation_within_the_guard_is_chosen_by_means_over_the_seeds(made_up):
    results = made_up(
        {
            "best fused": [(80.0, 60.0), (81.0, 60.0)],
            "within the guard": [(79.0, 70.0), (81.2, 72.0)],  # 80.1 on average
            "out of the guard": [(79.9, 90.0), (79.9, 90.0)],
        }
    )
    assert results.chosen == "within the guard"
    assert results.rule == (
        "Highest E(0.1) of the variants whose fused mIoU is within 0.5 of the best (means over the seeds, "
        "validation tiles): within the guard."
    )


def test_test_tiles_choose_nothing(made_up):
    results = made_up({"a": [(80.0, 70.0)], "b": [(80.0, 60.0)]})
    for run in results.runs:
        run.figures["test"] = {"miou": 0.0, "expected_miou": 100.0 if run.variant == "b" else 0.0}
    assert results.chosen == "a"


def test_spread_is_that_of_a_sample_and_one_seed_has_none(made_up):
    results = made_up({"a": [(80.0, 70.0), (82.0, 70.0)], "b": [(80.0, 60.0)]})
    assert results.mean("a", "val", "miou") == 81.0
    assert results.std("a", "val", "miou") == pytest.approx(2**0.5)
    assert results.std("b", "val", "miou") is None


def test_the_protocol_is_one_sentence_with_data_tiles_windows_and_seeds(made_up):
    sentence = made_up({"a": [(80.0, 70.0), (82.0, 70.0)]}).protocol.sentence
    for part in ("sample (generated)", "d" * 12, "test tiles 5_10, 5_11", "eroded", "window 64 px", "seeds 1, 2"):
        assert part in sentence


def test_the_document_is_json_with_every_run_and_the_choice(made_up):
    document = json.loads(json.dumps(made_up({"a": [(80.0, 70.0), (82.0, 70.0)]}).document()))
    assert len(document["runs"]) == 2 and document["chosen"] == "a"
    assert document["protocol"]["data_md5"] == "d" * 32


TWO = {"a": [(80.0, 70.0), (82.0, 70.0)], "b": [(79.9, 71.0), (81.5, 71.0)]}
ALONE = {"image alone": "rgb", "DSM alone": "dsm"}
FOUR = TWO | {"image alone": [(49.0, 49.0), (51.0, 51.0)], "DSM alone": [(24.0, 24.0), (26.0, 26.0)]}


def test_a_network_of_one_sensor_has_the_miou_of_this_sensor_and_nothing_else(made_up):
    results = made_up(FOUR, single=ALONE)
    assert results.values("image alone", "val", "miou_rgb") == [49.0, 51.0]
    for figure in ("miou", "miou_dsm", "expected_miou", "worst_class_iou", "shapley_rgb", "gate_mean"):
        assert results.values("image alone", "val", figure) == []


def test_the_rule_compares_networks_of_one_sensor_only_with_each_other(made_up):
    better = {"DSM alone": [(99.0, 99.0)]}
    assert made_up(TWO | better, single=ALONE).chosen == "b"
    results = made_up({"image alone": [(98.0, 98.0)]} | better, single=ALONE)
    assert results.chosen == "DSM alone"
    assert results.rule == "Highest mIoU (means over the seeds, validation tiles): DSM alone."


def test_a_share_is_the_mean_with_one_sensor_over_that_of_the_network_for_it(made_up):
    shares = made_up(FOUR, single=ALONE).shares("val")
    found = [(s.variant, s.sensor, s.miou, s.dedicated, s.dedicated_miou, s.share) for s in shares]
    assert found == [
        (variant, *rest)
        for variant in TWO
        for rest in [("rgb", 40.0, "image alone", 50.0, 0.8), ("dsm", 30.0, "DSM alone", 25.0, 1.2)]
    ]
    assert shares[0].text == "with the image 80.0 % of image alone (40.0 of 50.0)"


def test_networks_of_other_steps_are_not_compared(made_up):
    shares = made_up(FOUR, single=ALONE, steps={"a": 4, "DSM alone": 4}).shares("test")
    assert [(s.variant, s.sensor) for s in shares] == [("a", "dsm"), ("b", "rgb")]
