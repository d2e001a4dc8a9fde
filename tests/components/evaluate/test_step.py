"""components/evaluate/step.py: from a store and a network to reports."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from PIL import Image

from components.common.errors import NonFiniteError, ParamsError, StoreError, WeightsError
from components.common.inference.modelfile import save_model
from components.common.params import from_mapping
from components.evaluate import outputs, step
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import run
from model import MoBaNet, MoBaNetConfig
from tests.components.evaluate.conftest import HEIGHTS

CONFIG = EvaluateConfig(window_px=None, stride_px=12, batch_size=3, failure_probability=0.1, panel_px=64)
SCHEMA = json.loads((Path(step.__file__).with_name("evaluation.schema.json")).read_text())


def check_schema(content: object) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(content)


def test_a_network_that_needs_both_sensors_scores_as_worked_by_hand(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    result = run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports")
    eroded = result.evaluation.scores["eroded"]
    # Without one sensor, two of the four classes are predicted twice as often as they occur: IoU 1/2, the others 0.
    assert {name: found.miou for name, found in eroded.items()} == {"rgb+dsm": 100.0, "rgb": 25.0, "dsm": 25.0}
    assert eroded["rgb"].oa == 50.0
    figures = result.evaluation.balance
    assert figures.majority == pytest.approx(100 / 4 / 4)
    assert figures.expected_miou == pytest.approx((0.81 * 100 + 0.09 * 50) / 0.99)
    assert figures.shapley_rgb == figures.shapley_dsm == pytest.approx((100 - 6.25) / 2)
    assert sum(map(sum, result.evaluation.confusion["full"]["rgb"])) == 2 * 40 * 40
    assert sum(map(sum, result.evaluation.confusion["eroded"]["rgb"])) == 2 * 40 * 36


def test_a_network_that_ignores_the_dsm_gets_no_credit_for_it(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    result = run(CONFIG, store, use_network(by_rule(uses_dsm=False), store), tmp_path / "reports")
    figures = result.evaluation.balance
    # Without the image it predicts class 0 everywhere. All four classes are equally frequent, so v0 is that of class 0.
    assert figures.shapley_dsm == pytest.approx(0.0, abs=1e-9)
    assert figures.fusion_gain == 0.0 and figures.imbalance == pytest.approx(1.0)
    assert "ails without the image" in result.report.read_text()


def test_conditions_are_compared_on_the_tiles_with_both_sensors(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store(without_dsm=("5_11",))
    result = run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports")
    found = result.evaluation
    assert (found.balance.both, found.balance.rgb, found.balance.dsm) == (100.0, 25.0, 25.0)  # of tile 5_10
    # with tile 5_11, in which the image alone is always right, two of the four classes have a higher IoU
    assert found.scores["eroded"]["rgb"].miou > 30
    metrics = json.loads((tmp_path / "reports" / "metrics.json").read_text())
    assert metrics["miou_rgb"] == pytest.approx(found.scores["eroded"]["rgb"].miou)
    assert metrics["expected_miou"] == pytest.approx((0.81 * 100 + 0.09 * 50) / 0.99)
    assert found.intervals.differences["rgb+dsm - rgb"].value == 75.0
    text = result.report.read_text()
    assert "25.0 when the DSM is missing, 25.0 when the image is missing, on the tiles that have both." in text
    assert ">+75.0<" in text and "retains 25\N{NO-BREAK SPACE}% on the tiles with both" in text
    assert "are those of the tiles with both sensors" in " ".join(found.warnings)
    check_schema(json.loads((tmp_path / "reports" / "evaluation.json").read_text()))


def test_every_output_exists_and_agrees_with_the_schema(make_store, use_network, by_rule, tmp_path) -> None:
    store, reports = make_store(), tmp_path / "reports"
    run(CONFIG, store, use_network(by_rule(), store), reports)
    assert {path.name for path in reports.iterdir()} == set(outputs.OWNED)
    assert {path.name for path in (reports / "panels").iterdir()} == {"5_10.png", "5_11.png"}
    content = json.loads((reports / "evaluation.json").read_text())
    check_schema(content)
    assert content["protocol"]["tiles"] == ["5_10", "5_11"]
    assert content["protocol"]["model"]["validation"]["miou_fused"] == 80.1235
    assert content["protocol"]["model"]["initial_weights"]["licence"] == "unknown"
    metrics = json.loads((reports / "metrics.json").read_text())
    assert (metrics["miou"], metrics["miou_rgb"], metrics["fusion_gain"]) == (100.0, 25.0, 75.0)
    assert all(isinstance(value, float) for value in metrics.values())
    with Image.open(reports / "confusion.png") as picture:
        assert picture.size[0] > 2 * picture.size[1]  # three matrices side by side


def test_the_schema_refuses_what_it_does_not_know(make_store, use_network, by_rule, tmp_path) -> None:
    store, reports = make_store(), tmp_path / "reports"
    run(CONFIG, store, use_network(by_rule(), store), reports)
    content = json.loads((reports / "evaluation.json").read_text())
    for damage in ({"surprise": 1}, {"balance": {}}, {"warnings": "none"}):
        with pytest.raises(jsonschema.ValidationError):
            check_schema(content | damage)


@pytest.mark.parametrize("modality", ["rgb", "dsm"])
def test_a_single_modality_network_has_one_condition_and_no_balance(
    modality, make_store, use_network, by_rule, tmp_path
) -> None:
    store, reports = make_store(), tmp_path / "reports"
    result = run(CONFIG, store, use_network(by_rule(modalities=(modality,)), store), reports)
    content = json.loads((reports / "evaluation.json").read_text())
    check_schema(content)
    assert content["balance"] is None and list(content["scores"]["eroded"]) == [modality]
    assert result.evaluation.headline.miou == 25.0
    assert "expected_miou" not in json.loads((reports / "metrics.json").read_text())


def test_only_test_tiles_are_read(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    weights = use_network(by_rule(), store)
    for tile in ("2_10", "4_10"):
        (store / f"{tile}.arrow").unlink()
    assert run(CONFIG, store, weights, tmp_path / "reports").evaluation.headline.miou == 100.0


def test_a_real_model_file_goes_through(make_store, facts_for, tmp_path) -> None:
    tiny = {"patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 16}
    config = MoBaNetConfig(backbone="vit_tiny_patch16_224", backbone_args=tiny, aux_heads=False, decoder_channels=8)
    store, weights, reports = make_store(test=("5_10",)), tmp_path / "best.safetensors", tmp_path / "reports"
    save_model(weights, MoBaNet(config), facts_for(store, config))
    result = run(CONFIG, store, weights, reports)
    content = json.loads((reports / "evaluation.json").read_text())
    check_schema(content)
    assert re.fullmatch("[0-9a-f]{64}", content["protocol"]["model"]["sha256"])
    assert content["protocol"]["window_px"] == 16
    assert ">Gate<" in result.report.read_text()


def test_logits_that_are_not_finite_are_an_error_that_names_file_and_tile(make_store, use_network, by_rule, tmp_path):
    class Broken(by_rule):
        def forward(self, rgb, dsm):
            return super().forward(rgb, dsm) / (0.0 if rgb is None else 1.0)

    store = make_store()
    with pytest.raises(NonFiniteError) as error:
        run(CONFIG, store, use_network(Broken(), store), tmp_path / "reports")
    found = "the network gives logits that are NaN or infinite for tile 5_10 (dsm), so this model cannot be scored"
    assert f"best.safetensors: {found}; train again" in str(error.value)
    assert error.value.exit_code == 3 and not (tmp_path / "reports").exists()


def test_another_data_version_is_a_warning(make_store, use_network, by_rule, tmp_path, caplog) -> None:
    store = make_store()
    weights = use_network(by_rule(), store, data_md5="0" * 32)
    result = run(CONFIG, store, weights, tmp_path / "reports")
    assert any("another data version" in warning for warning in result.evaluation.warnings)
    assert "another data version" in caplog.text
    assert result.evaluation.protocol.model.data_md5 == "0" * 32 != result.evaluation.protocol.data_md5


def test_a_store_with_inputs_of_another_model_is_refused_in_one_sentence(make_store, use_network, by_rule, tmp_path):
    store = make_store()
    scaled = replace(HEIGHTS, scale_m=20.0)
    for changes, sentence in (
        ({"heights": scaled}, "settings of the heights are scale_m 10.0, but .* was trained with scale_m 20.0; score "),
        ({"bands": ("near infrared", "red", "green")}, "bands are red, green, blue, but .* trained with near infrared"),
    ):
        weights = use_network(by_rule(), store, **changes)
        with pytest.raises(StoreError, match=f"{sentence}.*`mobanet registry rescore`"):
            run(CONFIG, store, weights, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_the_record_names_the_raw_data_whatever_the_scaling_of_heights(make_store, use_network, by_rule, tmp_path):
    found = []
    for scale_m in (10.0, 20.0):
        heights = replace(HEIGHTS, scale_m=scale_m)
        store = make_store(heights=heights)
        found.append(run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports").evaluation.protocol)
    assert found[0].raw_md5 == found[1].raw_md5 and found[0].data_md5 != found[1].data_md5


def test_a_store_without_test_tiles_or_labels_is_refused(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store(test=())
    with pytest.raises(StoreError, match="no test tile"):
        run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports")


def test_a_stride_beyond_the_models_window_is_refused(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    config = EvaluateConfig(window_px=None, stride_px=17, batch_size=1, failure_probability=0.1, panel_px=64)
    with pytest.raises(ParamsError, match="evaluate.stride_px is 17, but the window is 16 px"):
        run(config, store, use_network(by_rule(), store), tmp_path / "reports")


@pytest.mark.parametrize(("window_px", "used"), [(None, 16), (15, 16), (16, 16), (17, 24)])
def test_a_window_is_rounded_up_to_whole_patches(window_px, used, make_store, use_network, by_rule, tmp_path) -> None:
    store, config = make_store(test=("5_10",)), replace(CONFIG, window_px=window_px)
    result = run(config, store, use_network(by_rule(), store), tmp_path / "reports")
    assert result.evaluation.protocol.window_px == used
    assert result.evaluation.headline.miou == 100.0


@pytest.mark.parametrize(("trained", "used"), [("float32", "float32"), ("tf32", "float32"), ("bf16", "bf16")])
def test_a_network_is_scored_in_the_precision_of_its_training(
    trained, used, make_store, use_network, by_rule, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    in_bf16, forward = [], by_rule.forward

    def watched(self, rgb, dsm):
        in_bf16.append(torch.is_autocast_enabled("cpu"))
        return forward(self, rgb, dsm)

    monkeypatch.setattr(by_rule, "forward", watched)
    store, reports = make_store(test=("5_10",)), tmp_path / "reports"
    run(CONFIG, store, use_network(by_rule(), store, precision=trained), reports)
    content = json.loads((reports / "evaluation.json").read_text())
    check_schema(content)
    assert content["protocol"]["precision"] == used
    assert set(in_bf16) == {used == "bf16"}
    assert not torch.is_autocast_enabled("cpu")


def test_metrics_json_has_the_names_that_dashboards_read(make_store, use_network, by_rule, tmp_path) -> None:
    store, reports = make_store(), tmp_path / "reports"
    run(CONFIG, store, use_network(by_rule(), store), reports)
    scores = {"oa", "miou", "mf1", "miou_all", "worst_class_iou", "miou_full_truth", "miou_rgb", "miou_dsm"}
    balance = {"majority", "expected_miou", "average", "last_1", "imbalance", "fusion_gain"}
    halves = {f"{name}_{sensor}" for name in ("retention", "shapley") for sensor in ("rgb", "dsm")}
    trust = {f"{name}{ending}" for name in ("boundary_iou", "ece") for ending in ("", "_rgb", "_dsm")}
    assert json.loads((reports / "metrics.json").read_text()).keys() == scores | balance | halves | trust


def test_missing_weights_are_one_sentence(make_store, tmp_path) -> None:
    with pytest.raises(WeightsError, match="no such model"):
        run(CONFIG, make_store(), tmp_path / "nowhere.safetensors", tmp_path / "reports")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window_px", 0),
        ("stride_px", 0),
        ("stride_px", 33),
        ("batch_size", 0),
        ("failure_probability", 1.0),
        ("panel_px", 63),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: float) -> None:
    known = {"window_px": 32, "stride_px": 16, "batch_size": 1, "failure_probability": 0.1, "panel_px": 64}
    with pytest.raises(ParamsError, match=rf"^evaluate\.{key} is {value}; expected"):
        from_mapping(EvaluateConfig, known | {key: value}, "evaluate")


def test_figures_pictures_and_page_join_the_run_of_the_training(
    make_store, use_network, by_rule, tmp_path, monkeypatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    training = client.create_run(client.create_experiment("training", artifact_location=str(tmp_path / "artifacts")))
    store = make_store(test=("5_10",))
    run(CONFIG, store, use_network(by_rule(), store, mlflow_run_id=training.info.run_id), tmp_path / "reports")
    data = client.get_run(training.info.run_id).data
    assert (data.metrics["test/miou"], data.metrics["test/iou/building"]) == (100.0, 100.0)
    assert "test/iou/car" not in data.metrics  # does not occur
    assert client.get_metric_history(training.info.run_id, "test/miou")[0].step == 300
    kept = {item.path for item in client.list_artifacts(training.info.run_id, "evaluation")}
    assert {"evaluation/report.html", "evaluation/evaluation.json", "evaluation/panels"} <= kept
    mlflow.set_tracking_uri(None)
