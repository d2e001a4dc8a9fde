"""components/register/promotion.py: the promotion rule, with hand-made numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.register.promotion import PromotionRecord, Tolerances, judge

CHAMPION = PromotionRecord(
    data_md5="aaa",
    protocol={"ground_truth": "eroded", "stride_px": 96, "failure_probability": 0.1},
    miou=80.0,
    worst_class="car",
    worst_class_iou=60.0,
    expected_miou=76.0,
)
BETTER = replace(CHAMPION, expected_miou=76.01)
TOLERANCES = Tolerances(fused_drop=0.5, worst_class_drop=2.0)


def failed(candidate: PromotionRecord, champion: PromotionRecord | None = CHAMPION) -> list[str]:
    return [gate.name for gate in judge(candidate, champion, TOLERANCES) if not gate.passed]


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        ({}, []),
        ({"expected_miou": 76.0}, ["expected mIoU"]),  # strictly higher
        ({"expected_miou": 75.0}, ["expected mIoU"]),
        ({"miou": 79.5}, []),  # just within the tolerance
        ({"miou": 79.49}, ["mIoU, both sensors"]),
        ({"worst_class_iou": 58.0}, []),
        ({"worst_class_iou": 57.99}, ["IoU, worst class (car; car)"]),
        ({"worst_class": "tree", "worst_class_iou": 50.0}, ["IoU, worst class (tree; car)"]),
        ({"data_md5": "bbb"}, ["data version"]),
        ({"protocol": CHAMPION.protocol | {"stride_px": 32}}, ["protocol"]),
        ({"protocol": CHAMPION.protocol | {"failure_probability": 0.2}}, ["protocol"]),
        ({"data_md5": "bbb", "miou": 10.0}, ["data version", "mIoU, both sensors"]),
    ],
)
def test_each_gate_fails_for_its_own_reason(change, gates) -> None:
    assert failed(replace(BETTER, **change)) == gates


def test_there_are_five_gates_against_a_champion() -> None:
    assert len(judge(BETTER, CHAMPION, TOLERANCES)) == 5


def test_the_protocol_gate_names_what_differs() -> None:
    candidate = replace(BETTER, protocol=CHAMPION.protocol | {"stride_px": 32})
    gate = next(g for g in judge(candidate, CHAMPION, TOLERANCES) if g.name == "protocol")
    assert (gate.candidate, gate.champion) == ("stride_px 32", "stride_px 96")


def test_the_first_model_needs_balance_figures_alone() -> None:
    assert failed(BETTER, champion=None) == []
    assert failed(replace(BETTER, expected_miou=None), champion=None) == ["balance figures"]


def test_a_network_of_one_sensor_never_replaces_a_champion() -> None:
    assert failed(replace(BETTER, expected_miou=None, miou=99.0)) == ["balance figures"]


def test_a_champion_without_balance_is_not_replaced_unseen() -> None:
    assert failed(BETTER, champion=replace(CHAMPION, expected_miou=None)) == ["balance figures"]


def test_a_promotion_record_is_read_from_an_evaluation(trained) -> None:
    evaluation = json.loads(trained.evaluation.read_text())
    promotion_record = PromotionRecord.of(evaluation)
    assert (promotion_record.miou, promotion_record.expected_miou) == (
        evaluation["balance"]["both"],
        evaluation["balance"]["expected_miou"],
    )
    assert promotion_record.worst_class_iou == min(
        c["iou"] for c in evaluation["scores"]["eroded"]["rgb+dsm"]["per_class"].values()
    )
    assert promotion_record.protocol["failure_probability"] == 0.1
    may_differ = {"model", "git_commit", "device", "window_px", "precision", "data_md5"}
    assert not may_differ & promotion_record.protocol.keys()


def test_a_promotion_record_survives_json(trained) -> None:
    promotion_record = PromotionRecord.of(json.loads(trained.evaluation.read_text()))
    assert PromotionRecord.from_json(promotion_record.to_json()) == promotion_record
