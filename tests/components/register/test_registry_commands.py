"""`mobanet registry`: output, exit codes and effects in a real MLflow store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from safetensors.torch import load_file, save_file

from components.common.files import write_json
from components.common.params import section
from components.common.tracking.run import open_run
from components.register import decisions
from components.register.config import RegisterConfig
from components.register.history.events import CHALLENGER, Event
from components.register.history.registry import Registry
from components.register.step import run
from components.register.uploads.admission import Candidate
from components.register.uploads.logged_model import Origin, upload
from components.register.uploads.version_tags import tags_of
from model import MoBaNetConfig
from pipeline.cli import main
from pipeline.presets.preset import SHIPPED
from tests.components.conftest import toy_facts
from tests.components.register.variants import sealed, variant

CONFIG = section(SHIPPED, "register", RegisterConfig)
NAME = CONFIG.model_name


@pytest.fixture(scope="module")
def three_versions(empty_mlflow_store, package, tmp_path_factory) -> Path:
    """A store with three versions: the champion, one that is better by a point, one that is worse by a point."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with open_run("mlflow", experiment="training") as training:
            training.params({"train": {"steps": 300}})
            training.tags({"kubeflow_run": "run-7", "image": "registry/mobanet@sha256:12"})
        write_json(folder / "run.json", {"mlflow_run_id": training.id})
        for letter, shift in (("a", 0.0), ("b", 1.0), ("c", -1.0)):
            changed = sealed(variant(package, folder / letter, shift=shift), mlflow_run_id=training.id)
            run(replace(CONFIG, promote=letter == "a"), changed, folder / "run.json", folder / "registration.json")
    return folder


@pytest.fixture
def city(three_versions, tmp_path, monkeypatch) -> Path:
    """A copy of the database in the current folder; the artifacts of the versions are shared by all tests."""
    shutil.copy(three_versions / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("components.register.history.alias_changes.GRACE_S", 0.0)
    return tmp_path


@contextmanager
def changed(file: Path, content: bytes | None) -> Iterator[None]:
    """Change a shared file in the block; None: it does not exist."""
    before = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    yield
    file.write_bytes(before)


@pytest.fixture
def command(city, monkeypatch, capsys):
    """Function that calls `mobanet registry`; returns exit code, stdout (JSON with --json) and stderr."""

    def call(*arguments: str):
        monkeypatch.setattr("sys.argv", ["mobanet", "registry", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        content = json.loads(captured.out) if "--json" in arguments and captured.out else captured.out
        return stop.value.code or 0, content, captured.err

    return call


def client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def registry() -> Registry:
    return Registry(client(), NAME)


def stored(version: str, file: str) -> Path:
    """A file of a version in the artifact store."""
    model_id = client().get_model_version(NAME, version).source.rpartition("/")[2]
    return Path(client().get_logged_model(model_id).artifact_location.removeprefix("file://")) / file


def test_list_shows_every_version_with_state_and_figures(command) -> None:
    code, _, err = command("reject", "2", "--because", "wrong labels")
    assert code == 0, err
    code, rows, _ = command("list", "--json")
    assert code == 0
    states = [(row["version"], row["state"]) for row in rows]
    assert states == [("3", "rejected"), ("2", "rejected"), ("1", "champion")]  # all have the same weights
    assert rows[1]["expected_miou"] == pytest.approx(rows[2]["expected_miou"] + 1)
    assert rows[1]["worst_iou"] == pytest.approx(rows[2]["worst_iou"] + 1)
    assert rows[0]["git_commit"] == "c" * 40 and rows[0]["dataset"] == "sample"
    table = command("list")[1]
    assert f"{rows[1]['expected_miou']:.1f}" in table and "rejected" in table


def test_show_states_where_a_version_comes_from(command) -> None:
    code, found, _ = command("show", f"{NAME}@champion", "--json")
    assert code == 0
    assert found["checkout"] == f"git checkout {'c' * 40} && dvc pull data/raw data/store"
    assert (found["kubeflow_run"], found["image"]) == ("run-7", "registry/mobanet@sha256:12")
    assert found["run_id"] and found["parameters"] == {"train.steps": "300"}
    assert found["validation"] == {"expected_miou": 70.0}
    assert found["test"]["balance.expected_miou"] == found["expected_miou"]
    assert found["files"].keys() >= {"model.safetensors", "evaluation.json", "README.md", "crops.safetensors"}
    assert found["data"]["split"] == "sample" and found["missing"] == []
    assert [event["kind"] for event in found["events"]] == ["register", "promote"]
    assert "git checkout" in command("show", "1")[1]


def test_compare_judges_every_gate_and_changes_nothing(command) -> None:
    before = registry().aliases(), registry().history().head
    code, found, _ = command("compare", "2", "champion", "--json")
    assert (code, found["candidate"], found["champion"], found["passed"]) == (0, "2", "1", True)
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert gates["expected mIoU"]["difference"] == "+1.00"
    assert "IoU, building" in gates and "mIoU, DSM only" in gates
    code, table, _ = command("compare", f"{NAME}@challenger", f"models:/{NAME}/2")
    assert code == 1 and "FAILED" in table and "version 3 fails a gate against version 2" in table
    assert (registry().aliases(), registry().history().head) == before


def test_promote_judges_against_the_current_champion(command) -> None:
    code, found, _ = command("promote", "2", "--json")
    assert (code, found["champion"], found["event"]["kind"]) == (0, "2", "promote")
    assert registry().aliases() == {"champion": "2", "previous-champion": "1", "challenger": "3"}
    code, found, _ = command("promote", "1", "--json")
    assert (code, found["champion"], found["changed"], found["event"]) == (1, "2", False, None)
    assert "is not promoted (expected mIoU" in found["outcome"]
    assert registry().champion() == "2"


def test_only_force_with_a_reason_promotes_a_version_that_fails_a_gate(command) -> None:
    code, _, err = command("promote", "3", "--force")
    assert code == 2 and "--force needs a reason; add --because TEXT" in err
    assert command("promote", "3", "--force", "--because", "the test tiles are outdated")[0] == 0
    event = registry().history().events[-1]
    assert (registry().champion(), event.forced, event.why) == ("3", True, "the test tiles are outdated")
    assert "expected mIoU" in [gate["name"] for gate in event.gates if not gate["passed"]]


def test_a_champion_made_while_a_version_is_judged_stays(command, monkeypatch) -> None:
    def read_back(name: str, version: str, trust: object) -> None:
        if version == "2":
            assert command("promote", "3", "--force", "--because", "first")[0] == 0

    monkeypatch.setattr(decisions, "read_back", read_back)
    code, _, err = command("promote", "2")
    assert code == 2 and f"champion of {NAME} is version 3 now and was version 1" in err
    assert registry().champion() == "3"


def test_rollback_reads_the_previous_champion_back_and_returns_to_it_once(command) -> None:
    assert command("promote", "2")[0] == 0
    with changed(stored("1", "model.safetensors"), None):
        code, _, err = command("rollback", "--because", "roofs are missing")
        assert code == 2 and f"models:/{NAME}/1" in err
        assert registry().champion() == "2"
    code, found, _ = command("rollback", "--because", "roofs are missing", "--json")
    assert (code, found["champion"], found["event"]["why"]) == (0, "1", "roofs are missing")
    code, _, err = command("rollback", "--because", "again")
    assert code == 2 and "has no previous champion" in err


def test_a_rejected_version_needs_force(command, monkeypatch) -> None:
    monkeypatch.setattr(decisions, "read_back", lambda name, version, trust: None)
    assert command("reject", "challenger", "--because", "wrong labels")[0] == 0
    assert registry().aliases() == {"champion": "1"}
    code, _, err = command("promote", "3", "--force", "--because", "labels were right")
    assert code == 0, err
    code, _, err = command("reject", "champion", "--because", "x")
    assert code == 2 and "rollback" in err
    code, events, _ = command("history", "--json")
    assert [(event["number"], event["kind"]) for event in events] == [
        *((1, "register"), (2, "promote"), (3, "register"), (4, "register")),
        *((5, "reject"), (6, "promote")),
    ]
    assert "labels were right" in command("history")[1]


def test_verify_checks_every_link_of_a_sound_version(command) -> None:
    code, found, _ = command("verify", "--json")
    assert (code, found["passed"], found["version"], found["first_broken"]) == (0, True, "1", None)
    names = ["history", "files", "signature", "evaluation", "tags", "run", "network", "crops"]
    assert [link["name"] for link in found["links"]] == names
    assert "trained these weights" in found["links"][5]["detail"]


def change_tag() -> None:
    client().set_model_version_tag(NAME, "1", "balance.expected_miou", "99.0")


def change_identity() -> None:
    client().set_model_version_tag(NAME, "1", "package_sha256", "0" * 64)


def change_alias() -> None:
    client().delete_registered_model_alias(NAME, "champion")


def delete_run() -> None:
    client().delete_run(client().get_model_version(NAME, "1").run_id)


@pytest.mark.parametrize(
    ("breaking", "link", "words"),
    [
        (change_tag, "tags", "balance.expected_miou is 99.0"),
        (change_identity, "history", "package_sha256"),
        (change_alias, "history", "champion is removed instead of 1"),
        (delete_run, "run", "mlflow runs restore"),
    ],
)
def test_verify_names_the_first_broken_link(command, breaking, link, words) -> None:
    breaking()
    code, found, _ = command("verify", "1", "--json")
    assert (code, found["first_broken"]) == (1, link)
    assert words in next(one["detail"] for one in found["links"] if not one["passed"])


def test_verify_tells_that_the_alias_was_removed_by_hand(command) -> None:
    change_alias()
    code, _, err = command("verify")
    assert code == 2 and "champion is removed instead of 1" in err and "--undo" in err
    assert command("verify", "--undo", "--because", "a mistake")[0] == 0


def test_verify_finds_a_changed_file(command) -> None:
    with changed(stored("1", "README.md"), b"another model"):
        code, out, _ = command("verify", "1")
    assert code == 1 and "the first broken link is files" in out and "README.md" in out


def test_verify_finds_an_evaluation_of_other_weights_and_other_logits(command, package, city) -> None:
    of_others = variant(package, city / "d", model={"sha256": "f" * 64, "modalities": ["rgb", "dsm"]})
    other = variant(package, city / "e")
    crops = load_file(other / "crops.safetensors")
    crops = {name: value + 1 if "logits" in name else value for name, value in crops.items()}
    save_file(crops, other / "crops.safetensors")
    for folder in (of_others, sealed(other)):  # past the checks of the register step
        add(folder)
    assert command("verify", "4", "--json")[1]["first_broken"] == "evaluation"
    code, found, _ = command("verify", "5", "--json")
    assert (code, found["first_broken"]) == (1, "crops")
    assert "logits of the stored crops differ by 1" in found["links"][-1]["detail"]


def add(folder: Path) -> str:
    """Make a package a version without reading it back."""
    candidate = Candidate.of(folder)
    tags = tags_of(candidate.record, candidate.evaluation, candidate.figures, None)
    return registry().add(upload(client(), folder, candidate.record, Origin(experiment(), None)), None, tags)


def experiment() -> str:
    return client().get_experiment_by_name("training").experiment_id


def test_an_alias_is_that_of_an_interrupted_command(command) -> None:
    """The command was killed after its entry in the history: MLflow still has the alias of before."""
    registry().ledger.append(Event("killed", "2026-11-27", "register", "2", sets={CHALLENGER: "2"}))
    assert registry().aliases()[CHALLENGER] == "3"
    code, found, _ = command("promote", "challenger", "--json")
    assert (code, found["version"], registry().champion()) == (0, "2", "2")


def test_a_file_of_limits_that_does_not_exist_is_an_error(command) -> None:
    code, _, err = command("promote", "2", "--params", "strict.yaml")
    assert code == 2 and "strict.yaml" in err
    assert registry().champion() == "1"


def test_a_champion_made_during_a_rollback_stays(command, monkeypatch) -> None:
    assert command("promote", "2")[0] == 0

    def read_back(name: str, version: str, trust: object) -> None:
        monkeypatch.setattr(decisions, "read_back", lambda name, version, trust: None)
        assert command("promote", "3", "--force", "--because", "repaired")[0] == 0

    monkeypatch.setattr(decisions, "read_back", read_back)
    code, _, err = command("rollback", "--because", "2 is broken")
    assert code == 2 and f"champion of {NAME} is version 3 now and was version 2" in err
    assert registry().champion() == "3"


def test_a_change_by_hand_is_undone_or_adopted(command) -> None:
    client().set_registered_model_alias(NAME, "champion", "2")
    assert "changed by hand" in command("promote", "2")[2]
    code, _, err = command("verify", "--undo")
    assert code == 2 and "--adopt and --undo need a reason; add --because TEXT" in err
    assert command("verify", "--undo", "--because", "nobody asked")[0] == 0
    assert registry().champion() == "1"
    client().set_registered_model_alias(NAME, "champion", "2")
    assert command("verify", "--adopt", "--because", "it is better")[0] == 0
    assert registry().aliases() == {"champion": "2", "previous-champion": "1", "challenger": "3"}
    assert [event.kind for event in registry().history().events][-2:] == ["undo", "adopt"]


def test_rescore_hands_the_aliases_over_to_a_version_with_the_same_weights(command, package, city, monkeypatch) -> None:
    def rescore(uri: str, raw: Path, settings: object, target: Path):
        assert (uri, raw) == (f"models:/{NAME}/1", Path("tiles"))
        variant(package, target, shift=-3.0, raw_md5="0" * 32)
        return toy_facts(MoBaNetConfig())

    monkeypatch.setattr("pipeline.rescoring.rescore", rescore)
    arguments = ("rescore", "champion", "--raw", "tiles", "--params", str(SHIPPED), "--json")
    code, found, _ = command(*arguments)
    assert (code, found["version"], found["champion"], found["event"]["kind"]) == (0, "4", "4", "rescore")
    assert registry().aliases() == {"champion": "4", "challenger": "3"}
    assert client().get_model_version(NAME, "4").tags["rescored_from"] == "1"
    champion = command("show", "champion", "--json")[1]
    assert champion["data"]["raw_md5"] == "0" * 32
    monkeypatch.setattr("pipeline.rescoring.rescore", lambda *given: rescore(f"models:/{NAME}/1", *given[1:]))
    code, found, _ = command(*arguments)
    assert (code, found["changed"]) == (0, False) and "already has these scores" in found["outcome"]


def test_a_rescore_that_was_interrupted_is_recorded_by_the_next_one(command, package, city) -> None:
    add(variant(package, city / "d", shift=-3.0, raw_md5="0" * 32))  # killed before the history
    for changed_now in (True, False):
        old = next(version for version in registry().versions() if version.number == "2")
        made = decisions.replace_scores(registry(), old, city / "d", None, why="other data")
        assert (made.version, made.changed) == ("4", changed_now)
    assert [(event.kind, event.replaces) for event in registry().history().events][-1] == ("rescore", "2")


def test_gc_marks_or_deletes_what_interrupted_registrations_left(command, package, city) -> None:
    lost = client().create_logged_model(experiment(), name="mobanet").model_id
    other = client().create_logged_model(experiment(), name="another-project").model_id
    stored(add(variant(package, city / "d", shift=2.0)), "model.safetensors").unlink()
    problem = "model.safetensors is missing in the artifact store"
    marked = {"kind": "version", "id": "4", "problem": problem, "action": "marked"}
    assert command("gc", "--json")[1] == [marked]  # the upload may be in progress
    code, found, _ = command("gc", "--min-age", "0", "--json")
    assert code == 0 and found[0] == marked
    assert [(one["kind"], one["id"], one["action"]) for one in found[1:]] == [("upload", lost, "marked")]
    assert client().get_model_version(NAME, "4").tags["unusable"] == problem
    assert command("list", "--json")[1][0]["state"] == "incomplete"
    found = command("gc", "--min-age", "0", "--delete", "--json")[1]
    # the upload of the deleted version is left without version
    assert [(one["kind"], one["action"]) for one in found] == [("version", "deleted"), *[("upload", "deleted")] * 2]
    assert [version.number for version in registry().versions()] == ["1", "2", "3"]
    assert client().get_logged_model(other).name == "another-project"
    assert command("gc", "--min-age", "0", "--json")[1] == []


def test_gc_never_touches_a_version_with_an_alias_or_a_history(command) -> None:
    with changed(stored("1", "model.safetensors"), None), changed(stored("2", "export.json"), None):
        found = command("gc", "--min-age", "0", "--delete", "--json")[1]
    assert [(one["id"], one["action"]) for one in found] == [("1", "kept"), ("2", "kept")]
    assert registry().champion() == "1"


def test_an_unknown_version_or_model_is_one_sentence(command) -> None:
    code, _, err = command("show", "best")
    assert code == 2 and "has no version or alias 'best'; it has 1, 2, 3, challenger, champion" in err
    code, _, err = command("list", "--name", "village")
    assert code == 2 and "has no registered model village" in err
    assert client().search_registered_models("name = 'village'") == []
    code, _, err = command("list", "--name", f"{NAME}.history")
    assert code == 2 and "is the history of a registered model" in err
