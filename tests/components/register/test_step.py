"""components/register/step.py: versions, aliases and the promotion history in a real MLflow store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from components.common.errors import DataError, ParamsError, TrackingError, WeightsError
from components.common.params import from_mapping
from components.common.tracking.run import open_run
from components.register.step import RegisterConfig, run
from model.inputs import normalise

CONFIG = RegisterConfig(model_name="city", promote=True, max_fused_drop=0.5, max_worst_class_drop=2.0)


@pytest.fixture
def register(mlflow_folder, trained, package):
    """Register a model that a letter identifies; `shift` is added to its scores, percent points."""

    def call(letter: str, *, shift: float = 0.0, run_id: str | None = None, config=CONFIG, package=package, **protocol):
        folder = mlflow_folder / letter
        shutil.copytree(package, folder, dirs_exist_ok=True)
        record = json.loads((package / "export.json").read_text())
        scores = json.loads(trained.evaluation.read_text())
        record["sha256"]["model.safetensors"] = letter * 64
        record["source_sha256"] = scores["protocol"]["model"]["sha256"] = letter * 64
        scores["protocol"] |= protocol
        for figure in ("both", "expected_miou"):
            scores["balance"][figure] += shift
        headline = scores["scores"]["eroded"]["rgb+dsm"]
        headline["miou"] += shift
        headline["per_class"][headline["worst_class"]]["iou"] += shift
        (folder / "export.json").write_text(json.dumps(record))
        (folder / "evaluation.json").write_text(json.dumps(scores))
        (folder / "run.json").write_text(json.dumps({"mlflow_run_id": run_id}))
        out = mlflow_folder / "registration.json"
        return run(config, folder, folder / "evaluation.json", folder / "run.json", out)

    return call


def aliases() -> dict[str, str]:
    found = mlflow.MlflowClient().get_registered_model("city").aliases
    return {alias: str(version) for alias, version in found.items()}


def promotions() -> dict[str, dict]:
    tags = mlflow.MlflowClient().get_registered_model("city").tags
    return {key: json.loads(value) for key, value in tags.items() if key.startswith("promotion.")}


def test_the_first_model_becomes_champion_with_all_its_figures(register, trained) -> None:
    with open_run("mlflow", experiment="training") as training:
        pass
    result = register("a", run_id=training.id)
    assert (result.version, result.created, result.promoted, result.champion) == ("1", True, True, "1")
    assert aliases() == {"challenger": "1", "champion": "1"}
    version = mlflow.MlflowClient().get_model_version("city", "1")
    balance = json.loads(trained.evaluation.read_text())["balance"]
    assert {k: float(v) for k, v in version.tags.items() if k.startswith("balance.")} == {
        f"balance.{name}": value for name, value in balance.items()
    }
    assert version.run_id == training.id
    outputs = mlflow.MlflowClient().get_run(training.id).outputs.model_outputs
    assert [f"models:/{output.model_id}" for output in outputs] == [version.source]
    said = {
        key: version.tags[key]
        for key in ("git_commit", "data_md5", "dataset", "split", "sha256", "scores.miou", "weights_licence")
    }
    assert said == {
        "git_commit": "c" * 40,
        "data_md5": "d" * 32,
        "dataset": "sample",
        "split": "sample",
        "sha256": "a" * 64,
        "weights_licence": "unknown",
        "scores.miou": str(balance["both"]),
    }


def test_a_model_without_a_run_is_registered_all_the_same(register) -> None:
    assert register("a", run_id=None).run_id is None
    assert not mlflow.MlflowClient().get_model_version("city", "1").run_id


def test_a_run_of_another_store_is_left_out_with_a_warning(register, caplog) -> None:
    assert register("a", run_id="e" * 32).run_id is None
    assert "the version is not linked to a run" in caplog.text


def test_a_better_model_takes_over_and_the_promotion_is_written_down(register) -> None:
    register("a")
    result = register("b", shift=1.0)
    assert (result.version, result.promoted, result.champion) == ("2", True, "2")
    assert aliases() == {"challenger": "2", "champion": "2"}
    written = promotions()
    assert sorted(written) == ["promotion.0001", "promotion.0002"]
    assert [(p["from"], p["to"]) for _, p in sorted(written.items())] == [(None, "1"), ("1", "2")]
    assert [gate["passed"] for gate in written["promotion.0002"]["gates"]] == [True] * 5
    assert len(json.dumps(written["promotion.0002"])) < 5000  # what a database column holds


def test_a_worse_model_leaves_the_champion_in_place(register) -> None:
    register("a")
    result = register("b", shift=-1.0)
    assert (result.version, result.promoted, result.champion) == ("2", False, "1")
    assert aliases() == {"challenger": "2", "champion": "1"}
    assert sorted(promotions()) == ["promotion.0001"]
    assert "FAILED" in result.as_table() and "version 1 stays the champion" in result.outcome


def test_a_better_model_stays_challenger_where_promotion_is_not_wanted(register) -> None:
    register("a")
    result = register("b", shift=1.0, config=replace(CONFIG, promote=False))
    assert all(gate.passed for gate in result.gates) and not result.promoted
    assert aliases() == {"challenger": "2", "champion": "1"}
    assert (
        result.outcome
        == "version 2 of city is not promoted (promotion was not requested); version 1 stays the champion"
    )


def test_a_model_scored_on_other_data_is_not_promoted_and_says_what_to_do(register) -> None:
    register("a")
    result = register("b", shift=5.0, data_md5="e" * 32)
    assert not result.promoted
    assert "(data version)" in result.outcome and "evaluate the champion again" in result.outcome


def test_a_champion_that_is_scored_again_can_then_be_replaced(register) -> None:
    register("a")
    assert not register("b", shift=1.0, data_md5="e" * 32).promoted
    again = register("a", data_md5="e" * 32)
    assert (again.version, again.created, again.champion) == ("1", False, "1")
    assert aliases() == {"challenger": "2", "champion": "1"}
    assert mlflow.MlflowClient().get_model_version("city", "1").tags["data_md5"] == "e" * 32
    assert register("b", shift=1.0, data_md5="e" * 32).promoted


def test_registering_the_same_model_again_adds_nothing(register, mlflow_folder) -> None:
    register("a")
    register("b", shift=-1.0)
    before = (aliases(), promotions())
    for letter in "ab":
        assert not register(letter, shift=0.0 if letter == "a" else -1.0).created
    client = mlflow.MlflowClient()
    assert len(client.search_model_versions("name = 'city'")) == 2
    assert (aliases(), promotions()) == before
    assert len(client.search_logged_models([client.get_experiment_by_name("city").experiment_id])) == 2


def test_a_promotion_that_was_cut_off_is_finished_without_a_second_entry(register) -> None:
    register("a")
    register("b", shift=1.0)
    mlflow.MlflowClient().set_registered_model_alias("city", "champion", "1")  # as if killed before the alias moved
    assert register("b", shift=1.0).promoted
    assert sorted(promotions()) == ["promotion.0001", "promotion.0002"]
    assert aliases()["champion"] == "2"


def test_a_champion_that_was_made_by_hand_is_not_replaced_unseen(register) -> None:
    register("a")
    mlflow.MlflowClient().delete_model_version_tag("city", "1", "promotion_record")
    assert not register("b", shift=5.0).promoted


def test_figures_of_an_earlier_evaluation_do_not_stay(register) -> None:
    register("a")
    mlflow.MlflowClient().set_model_version_tag("city", "1", "scores.invented", "1")
    mlflow.MlflowClient().set_model_version_tag("city", "1", "note", "mine")
    register("a", shift=1.0)
    tags = mlflow.MlflowClient().get_model_version("city", "1").tags
    assert "scores.invented" not in tags and tags["note"] == "mine"


def test_the_outcome_is_written_down(register, mlflow_folder) -> None:
    result = register("a")
    content = json.loads((mlflow_folder / "registration.json").read_text())
    assert (content["version"], content["promoted"], content["outcome"]) == ("1", True, result.outcome)
    assert content["gates"][0]["name"] == "balance figures" and content["sha256"] == "a" * 64


def test_the_registered_model_answers_as_the_network_does(register, trained, package) -> None:
    register("a")
    served = mlflow.pyfunc.load_model("models:/city@champion")
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)
    dsm = rng.normal(size=(2, 1, 32, 32)).astype(np.float32)
    dsm[0, 0, :9] = np.nan
    facts = trained.facts
    inputs = normalise(torch.from_numpy(image), torch.from_numpy(dsm), facts.image_mean, facts.image_std)
    with torch.inference_mode():
        expected = trained.network(*inputs).numpy()
    answer = served.predict({"image": image, "dsm": dsm})
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-4)
    assert served.metadata.signature.inputs.input_names() == ["image", "dsm"]
    example = served.input_example
    assert served.predict(example)["logits"].shape == (1, 6, 32, 32)


def test_the_version_carries_weights_card_and_evaluation_and_no_pickle(register, package) -> None:
    register("a")
    folder = Path(mlflow.artifacts.download_artifacts("models:/city/1"))
    names = {file.name for file in folder.rglob("*")}
    assert {"model.safetensors", "model_card.md", "evaluation.json", "export.json", "model.onnx", "MLmodel"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert (folder / "model.safetensors").read_bytes() == (package / "model.safetensors").read_bytes()


def test_an_evaluation_of_another_model_is_refused(mlflow_folder, trained, package) -> None:
    scores = json.loads(trained.evaluation.read_text())
    scores["protocol"]["model"]["sha256"] = "f" * 64
    evaluation, training_run = mlflow_folder / "evaluation.json", mlflow_folder / "run.json"
    evaluation.write_text(json.dumps(scores))
    training_run.write_text('{"mlflow_run_id": null}')
    with pytest.raises(DataError, match="not of the same model as"):
        run(CONFIG, package, evaluation, training_run, mlflow_folder / "out.json")
    evaluation.write_text('{"protocol": []}')
    with pytest.raises(DataError, match="damaged; run evaluate and export again"):
        run(CONFIG, package, evaluation, training_run, mlflow_folder / "out.json")
    with pytest.raises(DataError, match="no such file; run the steps before register first"):
        run(CONFIG, mlflow_folder, evaluation, training_run, mlflow_folder / "out.json")


def test_an_artifact_store_that_refuses_leaves_no_version(register, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError("access denied")

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", refuse)
    with pytest.raises(TrackingError, match=r"did not accept the model \(access denied\)"):
        register("a")
    assert mlflow.MlflowClient().search_model_versions("name = 'city'") == []


def test_what_the_registry_refuses_is_one_sentence(register, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(*args, **kwargs):
        raise MlflowException("quota exceeded\nand a long story")

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", refuse)
    with pytest.raises(TrackingError, match="rejected a request: quota exceeded$"):
        register("a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_name": "a/b"},
        {"model_name": ""},
        {"model_name": "a\n"},
        {"max_fused_drop": -0.1},
        {"max_worst_class_drop": float("nan")},
    ],
)
def test_a_parameter_out_of_range_names_itself(wrong) -> None:
    good = {"model_name": "city", "promote": True, "max_fused_drop": 0.5, "max_worst_class_drop": 2.0}
    with pytest.raises(ParamsError, match=rf"^register\.{next(iter(wrong))} is .*; expected"):
        from_mapping(RegisterConfig, good | wrong, "register")


def test_a_package_with_a_weight_that_is_not_finite_is_not_registered(register, package, tmp_path) -> None:
    path = tmp_path / "package/model.safetensors"
    shutil.copytree(package, path.parent)
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["decoder.classifier.1.weight"][0] = float("nan")
    save_file(tensors, path, metadata)  # as an earlier version exported it
    with pytest.raises(WeightsError, match="decoder.classifier.1.weight has a NaN or infinite value; train, evaluate"):
        register("a", package=path.parent)
    assert not mlflow.MlflowClient().search_registered_models()
