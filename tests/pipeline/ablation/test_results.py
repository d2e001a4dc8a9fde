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
