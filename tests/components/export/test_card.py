"""components/export/card.py: a stranger finds classes, inputs, scores with their protocol, balance and licence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.common.data.store import Heights
from components.common.inference.modelfile import InitialWeights
from components.export import card
from components.export.parity import CaseResult, Parity

PARITY = Parity(1e-3, 2e-7, "float32", 1.0, (CaseResult("noise", 1, 2e-7, 0),))


@pytest.fixture
def evaluation(trained):
    return json.loads(trained.evaluation.read_text())


def test_the_card_says_what_a_user_must_know(trained, evaluation) -> None:
    text = card.render(trained.facts, evaluation, PARITY)
    miou = evaluation["scores"]["eroded"]["rgb+dsm"]["miou"]
    expected = evaluation["balance"]["expected_miou"]
    for line in (
        "| 3 | tree | yes | 0, 255, 0 |",
        "| 5 | clutter | no | 255, 0, 0 |",
        "| `image` | N x 3 x 32 x 32 | float32, 0..255, bands red, green, blue, 0.05 m per pixel |",
        "within about 12 m) in metres, divided by 10, then clipped to -0.5..2",
        "the constant 102.0, 127.5, 153.0 (image, by band) or 0 (DSM)",
        "split `sample`, test tiles 5_10, 5_11; windows of 32 px, step 16 px",
        f"| eroded (object boundaries ignored) | image and DSM | 90.2 | {miou:.1f} |",
        f"| expected mIoU E(0.1): each sensor fails with probability 0.1 | {expected:.1f} |",
        "data version `" + "d" * 32,
        "Generated scenes; no real place, no ISPRS pixel.",
        "It is not usable on real images",
    ):
        assert line in text


def test_the_card_says_how_a_sensor_is_missing_and_what_the_network_does_then(trained, evaluation) -> None:
    assert "counts as 0 after normalisation (`missing: zero`)" in card.render(trained.facts, evaluation, PARITY)
    network = replace(trained.facts.network, missing="excluded", batch_norm="per-condition")
    text = card.render(replace(trained.facts, network=network), evaluation, PARITY)
    assert "To mark a sensor as missing, set its input to NaN everywhere" in text
    assert "A patch that a sensor lacks is left out of prompts and gates (`missing: excluded`)." in text
    assert "statistics for samples without image or without DSM (`batch_norm: per-condition`)" in text
    assert "the constant 102.0" not in text and 'There is no other value for "not measured".' in text


def test_the_card_states_the_temperature_of_every_condition(trained, evaluation) -> None:
    assert "temperature" not in card.render(trained.facts, evaluation, PARITY)
    facts = replace(trained.facts, temperature={"rgb+dsm": 1.25, "rgb": 2.0, "dsm": 0.81})
    text = card.render(facts, evaluation, PARITY)
    assert "1.25 (image and DSM), 2 (image only, DSM missing), 0.81 (DSM only, image missing)." in text


def test_the_licence_and_the_origin_of_the_initial_weights_are_stated(trained, evaluation) -> None:
    parts = {"backbone": "complete", "classifier": "32 of 48 values", "dgfm": "new"}
    facts = replace(trained.facts, initial_weights=InitialWeights("models:/mobanet/3", "a" * 64, "apache-2.0", parts))
    text = card.render(facts, evaluation, PARITY)
    started = f"`models:/mobanet/3`, sha256 `{'a' * 64}` (classifier: 32 of 48 values; dgfm: new)"
    assert f"| started from | {started} |" in text
    assert "to the licence of the pretrained weights:\n**apache-2.0**." in text
    assert "**unknown**" in card.render(trained.facts, evaluation, PARITY)


def test_accepted_findings_in_the_data_are_listed_with_their_tiles(trained, evaluation) -> None:
    facts = replace(trained.facts, accepted={"dsm-missing": ("2_10", "2_11"), "crs-missing": "all"})
    text = card.render(facts, evaluation, PARITY)
    assert "| dsm-missing | 2_10, 2_11 |" in text and "| crs-missing | all |" in text
    assert "Accepted findings" not in card.render(trained.facts, evaluation, PARITY)


def test_tables_have_as_many_cells_in_every_row(trained, evaluation) -> None:
    blocks = card.render(trained.facts, evaluation, PARITY).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) == 6
    for table in tables:
        assert len({line.count("|") for line in table if line.startswith("|")}) == 1, table


def test_a_network_of_one_sensor_has_no_balance(trained, evaluation) -> None:
    evaluation["balance"] = None
    evaluation["scores"] = {truth: {"rgb": found["rgb"]} for truth, found in evaluation["scores"].items()}
    text = card.render(trained.facts, evaluation, PARITY)
    assert "no balance figures, because this network uses a single sensor" in text and "Shapley" not in text


def test_warnings_of_the_evaluation_reach_the_reader(trained, evaluation) -> None:
    evaluation["warnings"] = ["Tile 5_10 has no car."]
    assert "- Tile 5_10 has no car." in card.render(trained.facts, evaluation, PARITY)


@pytest.mark.parametrize(
    ("heights", "description"),
    [
        (
            Heights("training-range", 30.0, 25.0, None, None, (0.0, 1.0), "datum"),
            "minus 30, divided by 25, then clipped to 0..1",
        ),
        (
            Heights("above-ground", 0.0, 10.0, None, None, (-0.5, 2.0), "ground"),
            "height above the ground of a normalised DSM in metres, divided by 10",
        ),
        (
            Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum"),
            "the percentiles 2 and 98 of the heights of each tile",
        ),
    ],
)
def test_every_way_of_scaling_heights_is_described(heights, description) -> None:
    assert description in card.describe_heights(heights)
