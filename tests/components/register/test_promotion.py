"""components/register/promotion.py: the promotion rule, with hand-made numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.common.params import from_mapping
from components.register.config import RegisterConfig
from components.register.promotion import PromotionRecord, judge
from tests.components.register.variants import CONFIG

CHAMPION = PromotionRecord(
    raw_md5="aaa",
    protocol={
        "ground_truth": "eroded",
        "stride_px": 96,
        "failure_probability": 0.1,
        "mean_classes": ["car", "tree"],
    },
    commits=("c" * 40, "d" * 40),
    miou=80.0,
    classes={"car": 60.0, "tree": 75.0, "clutter": None},
    sensors={"image only": 50.0, "DSM only": 40.0},
    expected_miou=76.0,
    noise=None,
    graph_difference=1e-5,
    graph_tolerance=1e-3,
    latency_ms=100.0,
    size_mb=25.0,
)
BETTER = replace(CHAMPION, expected_miou=76.01)
NOT_COMMITTED = ("c" * 40, "c" * 40 + "-dirty")


def failed(candidate, champion=CHAMPION, config=CONFIG) -> list[str]:
    verdicts = judge(candidate, champion, config, first=champion is None)
    return [gate.name for gate in verdicts if not gate.passed]


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        ({}, []),
        ({"expected_miou": 76.0}, ["expected mIoU"]),  # strictly higher
        ({"expected_miou": 75.0}, ["expected mIoU"]),
        ({"miou": 79.5}, []),  # just within the tolerance
        ({"miou": 79.49}, ["mIoU, both sensors"]),
        ({"sensors": {"image only": 47.0, "DSM only": 40.0}}, []),
        ({"sensors": {"image only": 46.99, "DSM only": 60.0}}, ["mIoU, image only"]),
        ({"sensors": {"image only": 50.0, "DSM only": 36.0}}, ["mIoU, DSM only"]),
        ({"classes": {"car": 58.0, "tree": 73.0, "clutter": None}}, []),
        ({"classes": {"car": 57.99, "tree": 80.0, "clutter": None}}, ["IoU, car"]),
        ({"classes": {"car": 61.0, "tree": 70.0, "clutter": 3.0}}, ["IoU, tree"]),  # not the worst class
        ({"raw_md5": "bbb"}, ["data version"]),
        ({"protocol": CHAMPION.protocol | {"stride_px": 32}}, ["protocol"]),
        ({"protocol": CHAMPION.protocol | {"failure_probability": 0.2}}, ["protocol"]),
        ({"raw_md5": "bbb", "miou": 10.0}, ["data version", "mIoU, both sensors"]),
        ({"commits": NOT_COMMITTED}, ["commit"]),
        ({"commits": ("unknown", "c" * 40)}, ["commit"]),
        ({"graph_difference": 2e-3}, ["graph, difference of logits"]),
    ],
)
def test_each_gate_fails_for_its_own_reason(change, gates) -> None:
    assert failed(replace(BETTER, **change)) == gates


def test_every_class_and_both_sensors_have_a_gate() -> None:
    names = [gate.name for gate in judge(BETTER, CHAMPION, CONFIG)]
    assert {"IoU, car", "IoU, tree", "mIoU, image only", "mIoU, DSM only"} <= set(names)
    assert len(names) == len(set(names)) == 12


def test_a_gate_shows_both_figures_and_their_difference() -> None:
    gate = next(g for g in judge(replace(BETTER, miou=80.25), CHAMPION, CONFIG) if g.name == "mIoU, both sensors")
    assert (gate.candidate, gate.champion, gate.difference, gate.limit) == ("80.25", "80.00", "+0.25", "79.50 or more")


def test_the_protocol_gate_names_what_differs() -> None:
    candidate = replace(BETTER, protocol=CHAMPION.protocol | {"stride_px": 32})
    gate = next(g for g in judge(candidate, CHAMPION, CONFIG) if g.name == "protocol")
    assert (gate.candidate, gate.champion) == ("stride_px 32", "stride_px 96")


def test_the_first_champion_needs_the_floor_and_committed_code() -> None:
    assert failed(BETTER, champion=None) == []
    assert failed(replace(BETTER, expected_miou=49.99), champion=None) == ["expected mIoU, floor"]
    assert failed(replace(BETTER, commits=NOT_COMMITTED), champion=None) == ["commit"]
    assert failed(replace(BETTER, expected_miou=None), champion=None) == ["balance figures"]


def test_uncommitted_code_makes_a_champion_only_where_that_is_allowed() -> None:
    candidate = replace(BETTER, commits=NOT_COMMITTED)
    assert failed(candidate, config=replace(CONFIG, require_clean_commit=False)) == []


def test_latency_and_size_have_gates_where_a_limit_is_set() -> None:
    limited = replace(CONFIG, max_latency_ms=99.0, max_size_mb=25.0)
    assert failed(BETTER, config=limited) == ["graph, latency in ms"]
    assert failed(replace(BETTER, latency_ms=99.0, size_mb=25.1), config=limited) == ["graph, size in MB"]


@pytest.mark.parametrize("on_tie", ["keep", "promote"])
def test_a_difference_within_the_noise_is_a_tie_that_a_parameter_decides(on_tie) -> None:
    noisy, config = replace(CHAMPION, noise=0.3), replace(CONFIG, on_tie=on_tie)
    verdicts = judge(replace(noisy, expected_miou=76.4), noisy, config)  # noise of the difference: 0.42
    gate = next(gate for gate in verdicts if gate.name == "expected mIoU")
    assert gate.passed is (on_tie == "promote")
    assert gate.limit == f"a tie: within 0.42; on_tie is {on_tie}"
    assert failed(replace(noisy, expected_miou=76.43), noisy, config) == []  # beyond the noise
    assert failed(replace(noisy, expected_miou=75.5), noisy, config) == ["expected mIoU"]


def test_a_network_of_one_sensor_never_replaces_a_champion() -> None:
    assert failed(replace(BETTER, expected_miou=None, miou=99.0)) == ["balance figures"]


def test_a_champion_without_balance_is_not_replaced_unseen() -> None:
    assert failed(BETTER, champion=replace(CHAMPION, expected_miou=None)) == ["balance figures"]
    verdicts = judge(BETTER, None, CONFIG)  # a champion that an earlier release registered
    assert [gate.name for gate in verdicts if not gate.passed] == ["balance figures"]


@pytest.fixture(scope="module")
def figures(package) -> PromotionRecord:
    return PromotionRecord.of(
        *(json.loads((package / name).read_text()) for name in ("evaluation.json", "export.json"))
    )


def test_a_promotion_record_is_read_from_a_package(figures, package) -> None:
    evaluation, record = (json.loads((package / name).read_text()) for name in ("evaluation.json", "export.json"))
    balance, protocol = evaluation["balance"], evaluation["protocol"]
    assert (figures.miou, figures.expected_miou) == (balance["both"], balance["expected_miou"])
    assert figures.sensors == {"image only": balance["rgb"], "DSM only": balance["dsm"]}
    classes = evaluation["scores"]["eroded"]["rgb+dsm"]["per_class"]
    assert figures.classes == {name: scores["iou"] for name, scores in classes.items()}
    assert figures.worst_class[1] == min(classes[name]["iou"] for name in protocol["mean_classes"])
    assert figures.protocol["failure_probability"] == 0.1
    assert (figures.raw_md5, figures.size_mb) == (protocol["raw_md5"], record["formats"]["onnx"]["bytes"] / 1e6)
    own = {"model", "git_commit", "device", "window_px", "precision", "data_md5", "raw_md5", "heights"}
    assert not own & figures.protocol.keys()


def test_a_promotion_record_of_many_tiles_fits_into_a_tag(figures, package) -> None:
    evaluation, record = (json.loads((package / name).read_text()) for name in ("evaluation.json", "export.json"))
    evaluation["protocol"]["tiles"] = [f"D004_2021/Z1_NN/IMG_{i:06d}" for i in range(15_700)]
    many = PromotionRecord.of(evaluation, record)
    assert len(many.to_json()) < 60_000 and many.protocol["tiles"].startswith("15700 tiles, sha256 ")
    assert many.protocol["tiles"] != figures.protocol["tiles"]


def test_a_promotion_record_survives_json_and_that_of_an_earlier_release_is_unknown(figures) -> None:
    assert PromotionRecord.from_json(figures.to_json()) == figures
    assert PromotionRecord.from_json('{"data_md5": "a", "miou": 1.0}') is None
    assert PromotionRecord.from_json("{") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_name": "a/b"},
        {"model_name": ""},
        {"model_name": "a\n"},
        {"max_fused_drop": -0.1},
        {"max_class_drop": float("nan")},
        {"min_expected_miou": 101.0},
        {"max_latency_ms": 0.0},
        {"on_tie": "toss"},
    ],
)
def test_a_parameter_out_of_range_names_itself(wrong) -> None:
    good = {name: getattr(CONFIG, name) for name in RegisterConfig.__slots__}
    with pytest.raises(Exception, match=rf"^register\.{next(iter(wrong))} is .*; expected"):
        from_mapping(RegisterConfig, good | wrong, "register")
