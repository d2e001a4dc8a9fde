"""components/export/descriptions/card.py: a reader finds classes, inputs, scores with protocol, balance and licence."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from components.common.data.store import Heights
from components.common.inference.modelfile import InitialWeights
from components.export.descriptions import card
from components.export.descriptions.card_figures import BALANCE, CONDITIONS, GROUND_TRUTHS, shown
from components.export.descriptions.hub_metadata import licence_fields
from tests.components.export.full_evaluation import formats, full

FORMATS = formats()
FIGURES = ("oa", "miou", "mf1", "miou_all")


@pytest.fixture
def evaluation(trained):
    return json.loads(trained.evaluation.read_text())


def test_the_card_says_what_a_user_must_know(trained, evaluation) -> None:
    text = card.render(trained.facts, evaluation, FORMATS)
    miou = evaluation["scores"]["eroded"]["rgb+dsm"]["miou"]
    expected = evaluation["balance"]["expected_miou"]
    for line in (
        "| 3 | tree | yes | 0, 255, 0 |",
        "| 5 | clutter | no | 255, 0, 0 |",
        "| `image` | N x 3 x H x W | float32, pixels as stored, 0..255; bands red, green, blue; 0.05 m per pixel |",
        "within about 12 m) in metres, divided by 10, then clipped to -0.5..2",
        "| `dsm` | N x 1 x H x W | float32, heights above ground in metres (a normalised DSM): `dsm_values` is",
        "| `logits` | N x 6 x H x W | float32, the class with the largest value is the prediction |",
        "split `sample`, test tiles 5_10, 5_11; windows of 32 px, step 16 px",
        f"| eroded (object boundaries ignored) | image and DSM | 90.20 | {miou:.2f} |",
        f"| expected mIoU E(0.1): each sensor fails with probability 0.1 | {expected:.2f} |",
        "data version `" + "d" * 32,
        "Generated scenes; no real place, no ISPRS pixel.",
        "It is not usable on real images",
    ):
        assert line in text


def test_the_card_says_how_a_sensor_is_missing_and_what_the_network_does_then(trained, evaluation) -> None:
    assert "counts as 0 after normalisation (`missing: zero`)" in card.render(trained.facts, evaluation, FORMATS)
    network = replace(trained.facts.network, missing="excluded", batch_norm="per-condition")
    text = card.render(replace(trained.facts, network=network), evaluation, FORMATS)
    assert "To mark a sensor as missing, set its input to NaN everywhere" in text
    assert "A patch that a sensor lacks is left out of prompts and gates (`missing: excluded`)." in text
    assert "statistics for samples without image or without DSM (`batch_norm: per-condition`)" in text


def test_the_card_states_the_temperature_of_every_condition(trained, evaluation) -> None:
    assert "The model is not calibrated" in card.render(trained.facts, evaluation, FORMATS)
    facts = replace(trained.facts, temperature={"rgb+dsm": 1.25, "rgb": 2.0, "dsm": 0.8134217})
    text = card.render(facts, evaluation, FORMATS)
    assert "1.25 (image and DSM), 2.0 (image only, DSM missing), 0.8134217 (DSM only, image missing)." in text
    assert "not calibrated" not in text


def test_the_licence_and_the_origin_of_the_initial_weights_are_stated(trained, evaluation) -> None:
    parts = {"backbone": "complete", "classifier": "32 of 48 values", "dgfm": "new"}
    facts = replace(trained.facts, initial_weights=InitialWeights("models:/mobanet/3", "a" * 64, "apache-2.0", parts))
    text = card.render(facts, evaluation, FORMATS)
    started = f"`models:/mobanet/3`, sha256 `{'a' * 64}` (classifier: 32 of 48 values; dgfm: new)"
    assert f"| started from | {started} |" in text
    assert "to the licence of the pretrained weights:\n**apache-2.0**." in text
    assert "**unknown**" in card.render(trained.facts, evaluation, FORMATS)


def test_accepted_findings_in_the_data_are_listed_with_their_tiles(trained, evaluation) -> None:
    facts = replace(trained.facts, accepted={"dsm-missing": ("2_10", "2_11"), "crs-missing": "all"})
    text = card.render(facts, evaluation, FORMATS)
    assert "| dsm-missing | 2_10, 2_11 |" in text and "| crs-missing | all |" in text
    assert "Accepted findings" not in card.render(trained.facts, evaluation, FORMATS)


def tables(text):
    """Heading or sentence before a table -> its rows, header first, as lists of cells."""
    found, last = {}, ""
    for line in text.split("\n---\n", 1)[1].splitlines():
        if line.startswith("|"):
            if not re.fullmatch(r"[| :-]+", line):
                found.setdefault(last, []).append(re.split(r" *(?<!\\)\| *", line.strip("| ")))
        elif line.strip():
            last = line.strip()
    return found


def in_section(text, heading):
    """The tables of a section, and its text."""
    part = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return list(tables(f"\n---\n{part}").values()), part


def test_tables_have_as_many_cells_in_every_row(trained, evaluation) -> None:
    facts = replace(trained.facts, accepted={"dsm-missing": ("2_10",)})
    found = tables(card.render(facts, full(evaluation) | {"warnings": ["a | b"]}, FORMATS))
    assert len(found) == 12
    for rows in found.values():
        assert len({len(row) for row in rows}) == 1, rows


def figure(value, interval=None):
    """A figure as the card shows it: two decimals."""
    text = "-" if value is None else f"{value:.2f}"
    return text + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def test_every_score_is_that_of_the_evaluation_to_the_digit(trained, evaluation) -> None:
    evaluation = full(evaluation)
    (scores, by_class, differences), text = in_section(card.render(trained.facts, evaluation, FORMATS), "Scores")
    intervals = evaluation["intervals"]["figures"]
    assert scores[1:] == [
        [
            f"{truth} ({GROUND_TRUTHS[truth]})",
            CONDITIONS[condition],
            *(
                figure(found[key], intervals.get(f"{key}/{condition}") if truth == "eroded" else None)
                for key in FIGURES
            ),
            found["worst_class"],
        ]
        for truth, by_condition in evaluation["scores"].items()
        for condition, found in by_condition.items()
    ]
    assert by_class[1:] == [
        [name]
        + [
            figure(found["per_class"][name]["iou"], intervals[f"iou/{condition}/{name}"])
            for condition, found in evaluation["scores"]["eroded"].items()
        ]
        for name in evaluation["protocol"]["classes"]
    ]
    assert by_class[5][3] == figure(evaluation["scores"]["eroded"]["dsm"]["per_class"]["car"]["iou"])
    assert [row[1:] for row in differences[1:]] == [["3.46", "-1.23", "7.89"], ["20.55", "-", "-"]]
    assert "intervals of 95 %, by a bootstrap of 1000 resamples over 36 blocks of 256 px" in text
    assert "worth 17.35 independent ones" in text


def test_every_other_figure_is_that_of_the_evaluation_to_the_digit(trained, evaluation) -> None:
    evaluation = full(evaluation)
    text = card.render(trained.facts, evaluation, FORMATS)
    balance, intervals = evaluation["balance"], evaluation["intervals"]["figures"]
    (rows,), _ = in_section(text, "Balance of the sensors")
    assert [row[1] for row in rows[1:-2]] == [figure(balance[key], intervals.get(key)) for key in list(BALANCE)[:-2]]
    assert [row[1] for row in rows[-2:]] == ["0.00", figure(balance["majority"])]  # never -0.00
    (rows,), _ = in_section(text, "Calibration")
    assert [row[1:] for row in rows[1:]] == [
        [figure(found["temperature"]), figure(100 * found["ece_before"]), figure(100 * found["ece"])]
        for found in evaluation["calibration"].values()
    ]
    (rows,), part = in_section(text, "Boundaries")
    of_conditions = evaluation["boundary"].values()
    assert rows[1][1:] == [figure(found["miou"]) for found in of_conditions] and "within 3 px" in part
    assert rows[2:] == [
        [name, *(figure(found["per_class"][name]) for found in of_conditions)]
        for name in evaluation["protocol"]["classes"]
    ]
    (rows,), _ = in_section(text, "Degraded inputs")
    assert rows[1:] == [
        ["noise", "DSM", "0.25 m", figure(evaluation["robustness"][0]["miou"]), "-12.35"],
        ["lost band", "image", "red", figure(evaluation["robustness"][1]["miou"]), "-"],
    ]


def numbers(content):
    """All floating-point numbers in JSON content."""
    if isinstance(content, dict | list):
        return {x for one in (content.values() if isinstance(content, dict) else content) for x in numbers(one)}
    return {content} if isinstance(content, float) else set()


def test_no_figure_comes_from_anywhere_else(trained, evaluation) -> None:
    evaluation = full(evaluation)
    known = {shown(factor * value) for value in numbers(evaluation) for factor in (1, 100)}
    text = card.render(trained.facts, evaluation, FORMATS)
    figures = re.findall(r"-?\d+\.\d\d(?!\d)", text.split("## Scores")[1].split("## Limits")[0])
    assert len(figures) > 130 and set(figures) <= known


def test_the_hub_reads_the_figures_with_their_protocol(trained, evaluation) -> None:
    evaluation = full(evaluation)
    evaluation["scores"]["full"]["dsm"]["mf1"] = None  # not defined
    data = ModelCard(card.render(trained.facts, evaluation, FORMATS)).data
    results = {
        (result.metric_args.get("sensors"), result.metric_args["ground_truth"], result.metric_name.split(", ")[0])
        + (("all",) if "all classes" in result.metric_name else ()): result
        for result in data.eval_results
    }
    assert len(results) == len(data.eval_results) == 2 * 3 * 4 - 1 + 1
    for truth, by_condition in evaluation["scores"].items():
        for condition, scores in by_condition.items():
            for key, name in (("oa", "OA"), ("miou", "mIoU"), ("mf1", "mF1")):
                if scores[key] is not None:
                    assert results[condition, truth, name].metric_value == round(scores[key], 2)
            assert results[condition, truth, "mIoU", "all"].metric_value == round(scores["miou_all"], 2)
    headline, protocol = results["rgb+dsm", "eroded", "mIoU"], evaluation["protocol"]
    low, high = evaluation["intervals"]["figures"]["miou/rgb+dsm"]
    assert headline.metric_args.items() >= {"low": round(low, 2), "high": round(high, 2), "level": 0.95}.items()
    assert (headline.metric_type, headline.dataset_type, headline.dataset_split) == ("mean_iou", "sample", "test")
    assert headline.dataset_revision == protocol["data_md5"]
    assert all(protocol[key] == value for key, value in headline.dataset_args.items())
    assert headline.dataset_args["tiles"] == ["5_10", "5_11"] and headline.dataset_args["stride_px"] == 16
    expected = results[None, "eroded", "expected mIoU E(p)"]
    assert expected.metric_value == round(evaluation["balance"]["expected_miou"], 2)
    assert {"mobanet", "qgis", "onnxruntime", "torch"} <= set(data.tags) and data.datasets == ["sample"]
    assert data.base_model is None and data.pipeline_tag == "image-segmentation"


@pytest.mark.parametrize(
    ("source", "licence", "fields"),
    [
        ("sample", "none needed (random weights)", {"license": "apache-2.0"}),
        ("sample", "cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("sample", "dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
        ("isprs", "apache-2.0", {"license": "other", "license_name": "terms-of-vaihingen-and-apache-2.0"}),
        (
            "isprs",
            "unknown (file a.pth)",
            {"license": "other", "license_name": "terms-of-vaihingen-and-unknown-file-a.pth"},
        ),
    ],
)
def test_the_licence_is_that_of_the_weights_only_if_the_data_have_no_terms(trained, source, licence, fields) -> None:
    start = InitialWeights("hub", "a" * 64, licence)
    facts = replace(trained.facts, source=source, dataset="vaihingen", initial_weights=start)
    found = licence_fields(facts)
    data = ModelCard(card.render(facts, json.loads(trained.evaluation.read_text()), FORMATS)).data
    assert data.license == found["license"] and data.base_model == "timm/test_vit"
    assert found.items() >= fields.items() and ("license_link" in found) == ("license_name" in fields)


def test_the_files_are_listed_with_their_agreement_and_with_why_one_is_missing(trained, evaluation) -> None:
    text = card.render(trained.facts, evaluation, FORMATS, ("classes", "confidence"))
    (rows,), part = in_section(text, "Files")
    assert rows[1:] == [
        ["`model.onnx`", "float32", "onnxruntime", "1.23", "logits", "2.0e-07", "0.0000"],
        ["`model_qgis.onnx`", "float32", "onnxruntime", "1.23", "probabilities", "3.0e-06", "0.0012"],
        ["`model.pt2`", "float32", "torch", "1.23", "logits", "0.0e+00", "0.0000"],
    ]
    assert "same class in both" not in part
    text_bf16 = card.render(trained.facts, evaluation, FORMATS, in_training=("bf16", 0.99876))
    assert "scores below used bf16. On the same inputs, 99.88 % of the pixels have the same class in both." in text_bf16
    assert "Left out: `onnx-int8`. 0.31 % of the pixels change class, more than 0.2 %" in part
    assert (
        "`model.onnx`, `model.pt2`:" in text and "| `classes` | N x H x W | uint8, the class of every pixel |" in text
    )
    assert "| `logits` |" not in text and "in the QGIS plugin Deepness: one input of 32 x 32 pixels" in text


def test_the_sizes_that_the_files_take_are_stated(trained, evaluation) -> None:
    fixed, free = (card.render(trained.facts, evaluation, FORMATS, multiple_px=multiple) for multiple in (None, 8))
    assert "H and W are 32 pixels, because the backbone has a fixed size." in fixed
    assert (
        "H and W are multiples of 8 pixels, from 16 on; the training used 32.\nOther sizes are an error: pad with NaN."
        in free
    )


def test_a_package_of_weights_only_has_no_example(trained, evaluation) -> None:
    text = card.render(trained.facts, evaluation, {})
    assert "This package has no other format." in text and "predict_example.py" not in text
    assert "| `image` |" not in text and "mobanet predict --model ." in text


def test_a_network_of_one_sensor_has_no_balance(trained, evaluation) -> None:
    evaluation["balance"] = None
    evaluation["scores"] = {truth: {"rgb": found["rgb"]} for truth, found in evaluation["scores"].items()}
    facts = replace(trained.facts, network=replace(trained.facts.network, modalities=("rgb",)))
    text = card.render(facts, evaluation, FORMATS)
    assert "no balance figures, because this network uses a single sensor" in text and "Shapley" not in text
    assert "no balance figures, because no test tile has both" in card.render(trained.facts, evaluation, FORMATS)


def test_warnings_of_the_evaluation_reach_the_reader(trained, evaluation) -> None:
    evaluation["warnings"] = ["Tile 5_10 has no car."]
    assert "- Tile 5_10 has no car." in card.render(trained.facts, evaluation, FORMATS)


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
