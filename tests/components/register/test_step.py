"""components/register/step.py: versions, aliases, gates and history in a real MLflow store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from components.common.errors import DataError, TrackingError, WeightsError
from components.common.files import digest, write_json
from components.common.tracking.packages import package_digest
from components.common.tracking.run import open_run
from components.register.history import aliases
from components.register.history.registry import Registry
from components.register.step import run
from tests.components.register import variants
from tests.components.register.variants import CONFIG, sealed


@pytest.fixture
def variant(tmp_path, package):
    """A package that a letter identifies; `shift` is added to its scores, percent points."""

    def make(letter: str, *, shift: float = 0.0, **protocol) -> Path:
        folder = variants.variant(
            package, tmp_path / "packages" / f"{letter}{shift:+}{len(protocol)}", shift=shift, **protocol
        )
        (folder / "README.md").write_text(f"model {letter}")
        return sealed(folder)

    return make


@pytest.fixture
def register(mlflow_folder, variant):
    def call(letter: str, *, shift: float = 0.0, run_id: str | None = None, config=CONFIG, package=None, **protocol):
        (mlflow_folder / "run.json").write_text(json.dumps({"mlflow_run_id": run_id}))
        folder = package or variant(letter, shift=shift, **protocol)
        return run(config, folder, mlflow_folder / "run.json", mlflow_folder / "registration.json")

    return call


def registry() -> Registry:
    return Registry(mlflow.MlflowClient(), "city")


def client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def changes() -> list[tuple[str, str | None, dict]]:
    return [(event.kind, event.version, dict(event.sets)) for event in registry().history().events]


def test_the_first_model_becomes_champion_with_all_its_figures(register, package) -> None:
    with open_run("mlflow", experiment="training") as training:
        pass
    result = register("a", run_id=training.id)
    assert (result.version, result.created, result.promoted, result.champion) == ("1", True, True, "1")
    assert registry().aliases() == {"challenger": "1", "champion": "1"}
    version = client().get_model_version("city", "1")
    evaluation = json.loads((package / "evaluation.json").read_text())
    assert {k: float(v) for k, v in version.tags.items() if k.startswith("balance.")} == {
        f"balance.{name}": value for name, value in evaluation["balance"].items()
    }
    assert version.run_id == version.tags["mlflow_run_id"] == training.id
    outputs = client().get_run(training.id).outputs.model_outputs
    assert [f"models:/{output.model_id}" for output in outputs] == [version.source]
    assert version.tags["sha256"] == digest(package / "model.safetensors")
    expected = {"git_commit": "c" * 40, "data_md5": "d" * 32, "dataset": "sample", "split": "sample"}
    assert {key: version.tags[key] for key in expected} == expected
    assert version.tags["raw_md5"] == evaluation["protocol"]["raw_md5"]


def test_every_file_of_the_package_identifies_the_version(register, variant) -> None:
    register("a")
    version = client().get_model_version("city", "1")
    record = json.loads((variant("a") / "export.json").read_text())
    assert version.tags["package_sha256"] == package_digest(record["sha256"])
    for name in record["sha256"]:
        assert package_digest(record["sha256"] | {name: "0" * 64}) != version.tags["package_sha256"]
    assert register("b").version == "2"  # another card, the same weights


def test_another_evaluation_of_the_same_weights_is_a_version_with_its_own_card_and_tags(register) -> None:
    register("a")
    assert register("a", shift=-1.0).version == "2"
    for number, shift in (("1", 0.0), ("2", -1.0)):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/city/{number}"))
        evaluation = json.loads((folder / "evaluation.json").read_text())
        tags = client().get_model_version("city", number).tags
        assert float(tags["balance.expected_miou"]) == evaluation["balance"]["expected_miou"]
        assert float(tags["scores.miou"]) == evaluation["scores"]["eroded"]["rgb+dsm"]["miou"]
        assert float(tags["scores.miou"]) == pytest.approx(float(tags["balance.both"])), shift


def test_a_model_without_a_run_is_registered_without_a_link(register) -> None:
    assert register("a", run_id=None).run_id is None
    assert not client().get_model_version("city", "1").run_id


def test_a_run_of_another_store_is_left_out_with_a_warning(register, caplog) -> None:
    assert register("a", run_id="e" * 32).run_id is None
    assert "the version is not linked to a run" in caplog.text


def test_a_link_to_the_run_that_was_missing_is_added_by_registering_again(register) -> None:
    register("a", run_id=None)
    with open_run("mlflow", experiment="training") as training:
        pass
    result = register("a", run_id=training.id)
    assert (result.version, result.created, result.run_id) == ("1", False, training.id)
    assert client().get_model_version("city", "1").tags["mlflow_run_id"] == training.id


def test_a_better_model_takes_over_and_every_change_is_recorded(register) -> None:
    register("a")
    result = register("b", shift=1.0)
    assert (result.version, result.promoted, result.champion) == ("2", True, "2")
    assert registry().aliases() == {"challenger": "2", "champion": "2", "previous-champion": "1"}
    assert changes() == [
        ("register", "1", {"challenger": "1"}),
        ("promote", "1", {"champion": "1", "previous-champion": None}),
        ("register", "2", {"challenger": "2"}),
        ("promote", "2", {"champion": "2", "previous-champion": "1"}),
    ]
    event = registry().history().events[-1]
    assert [gate["passed"] for gate in event.gates] == [True] * len(result.gates)
    assert event.digest == client().get_model_version("city", "2").tags["package_sha256"]
    assert event.why and event.who and event.time


def test_a_worse_model_leaves_the_champion_in_place(register) -> None:
    register("a")
    result = register("b", shift=-1.0)
    assert (result.version, result.promoted, result.champion) == ("2", False, "1")
    assert registry().aliases() == {"challenger": "2", "champion": "1"}
    assert "FAILED" in result.as_table() and "version 1 stays the champion" in result.outcome


def test_a_better_model_stays_challenger_where_promotion_is_not_requested(register) -> None:
    register("a")
    result = register("b", shift=1.0, config=replace(CONFIG, promote=False))
    assert result.may_be_promoted and not result.promoted
    assert registry().aliases() == {"challenger": "2", "champion": "1"}
    assert (
        result.outcome
        == "version 2 of city is not promoted (promotion was not requested); version 1 stays the champion"
    )


def test_a_model_scored_on_other_data_is_not_promoted_and_the_outcome_names_the_command(register) -> None:
    register("a")
    result = register("b", shift=5.0, raw_md5="0" * 32)
    assert not result.promoted
    assert "(data version)" in result.outcome and "mobanet registry rescore" in result.outcome


def test_registering_the_same_package_again_adds_nothing(register) -> None:
    register("a")
    register("b", shift=-1.0)
    before = (registry().aliases(), changes())
    for letter, shift in (("a", 0.0), ("b", -1.0)):
        assert not register(letter, shift=shift).created
    assert len(client().search_model_versions("name = 'city'")) == 2
    assert (registry().aliases(), changes()) == before
    assert len(client().search_logged_models([client().get_experiment_by_name("city").experiment_id])) == 2


def test_a_rejected_version_is_not_promoted_again(register) -> None:
    register("a")
    register("b", shift=1.0, config=replace(CONFIG, promote=False))
    aliases.reject(registry(), "2", why="wrong roofs")
    result = register("b", shift=1.0)
    assert not result.promoted and not result.may_be_promoted
    assert "it was rejected" in result.outcome
    assert registry().aliases() == {"champion": "1"}


def test_an_alias_that_was_changed_by_hand_is_reported_and_nothing_moves(register) -> None:
    register("a")
    register("b", shift=-1.0)
    client().set_registered_model_alias("city", "champion", "2")
    result = register("c", shift=5.0)
    assert not result.promoted and not result.may_be_promoted
    assert "champion is 2 instead of 1" in result.outcome
    assert registry().aliases() == {"challenger": "2", "champion": "2"}
    aliases.undo(registry(), why="by mistake")
    assert register("c", shift=5.0).promoted


def test_a_champion_of_an_earlier_release_is_not_replaced_unseen(register) -> None:
    register("a")
    client().set_model_version_tag("city", "1", "promotion_record", '{"data_md5": "d", "miou": 1.0}')
    result = register("b", shift=5.0)
    assert not result.promoted and "mobanet registry rescore city@champion" in result.outcome


def test_a_network_of_one_sensor_is_not_sent_to_rescore_a_champion(register, variant) -> None:
    folder = variant("a")
    scores = json.loads((folder / "evaluation.json").read_text())
    write_json(folder / "evaluation.json", scores | {"balance": None})
    result = register("a", package=sealed(folder))
    assert not result.promoted
    assert result.outcome == "version 1 of city is not promoted (balance figures); there is no champion"


def test_a_deleted_experiment_of_the_model_names_the_key_that_names_it(register) -> None:
    register("a")
    client().delete_experiment(client().get_experiment_by_name("city").experiment_id)
    with pytest.raises(TrackingError, match="or set register.model_name to another name"):
        register("b", shift=1.0)


def test_tags_of_the_user_stay_and_those_of_other_figures_do_not(register) -> None:
    register("a")
    client().set_model_version_tag("city", "1", "scores.invented", "1")
    client().set_model_version_tag("city", "1", "note", "mine")
    register("a")
    tags = client().get_model_version("city", "1").tags
    assert "scores.invented" not in tags and tags["note"] == "mine"


def test_the_outcome_is_written_to_a_file(register, mlflow_folder, package) -> None:
    result = register("a")
    content = json.loads((mlflow_folder / "registration.json").read_text())
    assert (content["version"], content["promoted"], content["outcome"]) == ("1", True, result.outcome)
    assert content["gates"][0]["name"] == "commit"
    assert content["sha256"] == digest(package / "model.safetensors")
    assert content["package_sha256"] == client().get_model_version("city", "1").tags["package_sha256"]


def test_a_file_that_was_changed_after_the_export_is_refused(register, variant) -> None:
    folder = variant("a")
    (folder / "evaluation.json").write_text((folder / "evaluation.json").read_text() + "\n")
    with pytest.raises(DataError, match="evaluation.json"):
        register("a", package=folder)
    assert not client().search_registered_models()


def test_a_package_without_its_evaluation_is_refused(register, variant, mlflow_folder) -> None:
    folder = variant("a")
    (folder / "evaluation.json").write_text('{"protocol": []}')
    with pytest.raises(DataError, match="damaged or of an earlier release; run"):
        register("a", package=sealed(folder))
    with pytest.raises(DataError, match="export"):
        register("a", package=mlflow_folder)


def test_an_artifact_store_that_refuses_leaves_no_version(register, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError("access denied")

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", refuse)
    with pytest.raises(TrackingError, match=r"did not accept the model \(access denied\)"):
        register("a")
    assert client().search_model_versions("name = 'city'") == []


def test_a_version_that_reads_back_differently_gets_no_alias(register, monkeypatch) -> None:
    real = mlflow.MlflowClient.log_model_artifacts

    def damaging(self, model_id, local_dir, *args, **kwargs):
        path = Path(local_dir) / "model.safetensors"
        if path.exists():  # not in the folder with MLflow's own file
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        return real(self, model_id, local_dir, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", damaging)
    with pytest.raises(TrackingError, match=r"models:/city/1/model\.safetensors: changed since the export"):
        register("a")
    assert registry().aliases() == {}


@pytest.mark.parametrize("lost", ["all", "README.md"])
def test_files_of_the_champion_that_are_lost_or_changed_are_uploaded_again(
    register, mlflow_folder, caplog, lost
) -> None:
    register("a")
    (source,) = mlflow_folder.rglob("artifacts/README.md")
    before = {path.name for path in source.parent.iterdir()}
    if lost == "all":
        shutil.rmtree(mlflow_folder / "mlruns")
    else:
        source.write_text("another card")
    result = register("a")
    assert (result.version, result.created, result.champion) == ("1", False, "1")
    assert "its files are uploaded again" in caplog.text
    assert {path.name for path in source.parent.iterdir()} == before and "MLmodel" in before
    assert source.read_text() == "model a"


def test_a_champion_whose_files_cannot_be_restored_is_not_called_up_to_date(
    register, mlflow_folder, monkeypatch
) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError("access denied")

    register("a")
    shutil.rmtree(mlflow_folder / "mlruns")
    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", refuse)
    with pytest.raises(TrackingError, match="access denied"):
        register("a")


def test_what_the_registry_refuses_is_one_sentence(register, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(*args, **kwargs):
        raise MlflowException("quota exceeded\nand a long story")

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", refuse)
    with pytest.raises(TrackingError, match="quota exceeded"):
        register("a")


def test_a_package_with_a_weight_that_is_not_finite_is_not_registered(register, variant) -> None:
    folder = variant("a")
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["decoder.classifier.1.weight"][0] = float("nan")
    assert isinstance(tensors["decoder.classifier.1.weight"], torch.Tensor)
    save_file(tensors, path, metadata)  # as an earlier version exported it
    with pytest.raises(WeightsError, match="decoder.classifier.1.weight has a NaN or infinite value; train, evaluate"):
        register("a", package=sealed(folder))
    assert not client().search_registered_models()
