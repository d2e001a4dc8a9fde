"""components/register/history/aliases.py with a real MLflow store: every change is recorded, compared and completed."""

from __future__ import annotations

import json
import time

import mlflow
import pytest
from mlflow.exceptions import BAD_REQUEST, MlflowException

from components.common.errors import TrackingError
from components.common.tracking import answers
from components.common.tracking.registered_models import PACKAGE_SHA256, SHA256
from components.register.history import alias_changes, aliases
from components.register.history.aliases import ConflictError, RegistryError
from components.register.history.events import ALIASES, CHALLENGER, CHAMPION, PREVIOUS
from components.register.history.ledger import who
from components.register.history.registry import Registry
from components.register.promotion import Gate

PASSED = (Gate("expected mIoU", "81.00", "80.00", "+1.00", "higher", True),)
FAILED = (Gate("expected mIoU", "79.00", "80.00", "-1.00", "higher", False),)


@pytest.fixture(scope="module")
def client(empty_mlflow_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    path.write_bytes(empty_mlflow_store.read_bytes())
    return mlflow.MlflowClient(f"sqlite:///{path}")


@pytest.fixture
def registry(client, monkeypatch):
    """A registered model with versions 1 to 4; 4 has the weights of 2."""
    monkeypatch.setattr(alias_changes, "GRACE_S", 0.0)
    registry = Registry.open(client, f"city-{time.monotonic_ns()}")
    for package, weights in (("a", "a"), ("b", "b"), ("c", "c"), ("d", "b")):
        version(client, registry.name, package, weights)
    return registry


def version(client, name: str, package: str, weights: str) -> str:
    tags = {PACKAGE_SHA256: package * 64, SHA256: weights * 64}
    return str(client.create_model_version(name, "test:/none", tags=tags, await_creation_for=0).version)


def champions(registry: Registry, *versions: str) -> None:
    for former, number in zip((None, *versions), versions, strict=False):
        aliases.promote(registry, number, former, PASSED, why="passed every gate")


def kinds(registry: Registry) -> list[str]:
    return [event.kind for event in registry.history().events if not event.lost]


class Interrupted(BaseException):
    """Stands for a process that is killed: no handler of the code runs."""


class Hook:
    """A client that calls a function before each request."""

    def __init__(self, client, before) -> None:
        self.client, self.before = client, before

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            self.before(name)
            return method(*arguments, **options)

        return call


def test_every_change_is_recorded_with_all_that_explains_it(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"kubeflow_run": "run-7"}')
    aliases.challenge(registry, "1", PASSED)
    champions(registry, "1", "2")
    event = registry.history().events[-1]
    assert (event.number, event.kind, event.version) == (3, "promote", "2")
    assert (event.expects, event.sets) == ({CHAMPION: "1"}, {CHAMPION: "2", PREVIOUS: "1"})
    assert (event.who, event.why) == ("ada, Kubeflow run run-7", "passed every gate")
    assert (event.digest, event.forced, event.applied) == ("b" * 64, False, True)
    assert [gate["name"] for gate in event.gates] == ["expected mIoU"]
    assert registry.aliases() == {CHALLENGER: "1", CHAMPION: "2", PREVIOUS: "1"}


def test_the_pages_of_mlflow_show_a_sentence_per_event(client, registry):
    champions(registry, "1")
    (entry,) = client.search_model_versions(f"name = '{registry.name}.history'")
    assert f"{who()} promoted version 1 of {registry.name} (champion: none -> 1" in entry.description


def test_a_rollback_makes_the_previous_champion_the_champion_and_is_recorded(registry):
    champions(registry, "1", "2", "3")
    aliases.rollback(registry, why="wrong roofs")
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    aliases.rollback(registry, why="wrong roofs too")
    assert registry.aliases() == {CHAMPION: "1"}
    with pytest.raises(RegistryError, match="has no previous champion"):
        aliases.rollback(registry, why="again")
    assert kinds(registry) == ["promote"] * 3 + ["rollback"] * 2


def test_the_same_promotion_after_a_rollback_has_a_record_of_its_own(registry):
    champions(registry, "1", "2")
    aliases.rollback(registry, why="an incident")
    aliases.promote(registry, "2", "1", PASSED, why="repaired")
    assert kinds(registry) == ["promote", "promote", "rollback", "promote"]
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}


def test_a_version_that_failed_a_gate_is_promoted_by_force_with_a_reason_only(registry):
    champions(registry, "1")
    with pytest.raises(RegistryError, match=r"failed a gate \(expected mIoU\)"):
        aliases.promote(registry, "2", "1", FAILED, why="please")
    with pytest.raises(RegistryError, match="needs a reason"):
        aliases.promote(registry, "2", "1", FAILED, why=" ", forced=True)
    assert registry.champion() == "1"
    event = aliases.promote(registry, "2", "1", FAILED, why="an incident", forced=True)
    assert event.forced and registry.champion() == "2"


def test_a_rejected_version_and_its_weights_are_not_promoted_again(registry):
    champions(registry, "1")
    aliases.challenge(registry, "2", PASSED)
    aliases.reject(registry, "2", why="wrong labels")
    assert registry.aliases() == {CHAMPION: "1"}
    assert registry.rejected() == {"2", "4"}
    for number in ("2", "4"):
        assert aliases.challenge(registry, number, PASSED) is None
        with pytest.raises(RegistryError, match="was rejected"):
            aliases.promote(registry, number, "1", PASSED, why="passed every gate")
    aliases.promote(registry, "2", "1", PASSED, why="the labels were right", forced=True)
    assert registry.champion() == "2"


def test_rollback_passes_over_a_rejected_version(registry):
    champions(registry, "1", "2", "3")
    aliases.reject(registry, "2", why="wrong labels")
    assert registry.aliases() == {CHAMPION: "3", PREVIOUS: "1"}
    aliases.rollback(registry, why="an incident")
    assert registry.aliases() == {CHAMPION: "1"}


def test_rollback_does_not_return_to_the_weights_of_a_rejected_version(registry):
    champions(registry, "1", "4", "3")
    aliases.reject(registry, "2", why="wrong labels")  # the weights of 4
    with pytest.raises(RegistryError, match="version 4 of .* has the weights of a rejected version"):
        aliases.rollback(registry, why="an incident")
    assert registry.champion() == "3"


def test_a_rollback_fails_if_the_champion_is_not_the_one_that_was_seen(registry):
    champions(registry, "1", "2")
    seen = registry.aliases()
    aliases.promote(registry, "3", "2", PASSED, why="repaired")
    with pytest.raises(ConflictError, match="is version 3 now and was version 2 when this change was decided"):
        aliases.rollback(registry, why="2 is broken", seen=seen)
    assert registry.aliases() == {CHAMPION: "3", PREVIOUS: "2"}


def test_the_champion_is_not_rejected(registry):
    champions(registry, "1")
    with pytest.raises(RegistryError, match="is the champion; run `mobanet registry rollback` first"):
        aliases.reject(registry, "1", why="bad")


def test_a_version_that_does_not_exist_is_refused(registry):
    with pytest.raises(RegistryError, match="has no version 9"):
        aliases.promote(registry, "9", None, PASSED, why="passed every gate")
    assert kinds(registry) == []


def test_a_version_scored_again_takes_over_the_aliases(registry):
    champions(registry, "1", "2")
    aliases.rescored(registry, "2", "4", why="new test tiles")
    assert registry.aliases() == {CHAMPION: "4", PREVIOUS: "1"}
    aliases.rollback(registry, why="an incident")
    assert registry.aliases() == {CHAMPION: "1"}


@pytest.mark.parametrize(("old", "new"), [("2", "4"), ("4", "2")])
def test_a_version_scored_again_does_not_become_its_own_predecessor(registry, old, new):
    champions(registry, "1", "2", "4")
    aliases.rescored(registry, old, new, why="new test tiles")
    assert registry.aliases() == {CHAMPION: "4" if new == "4" else "2", PREVIOUS: "1"}
    aliases.rollback(registry, why="an incident")
    assert registry.aliases() == {CHAMPION: "1"}


def test_promotion_fails_if_the_champion_is_not_the_one_that_was_judged(registry):
    champions(registry, "1", "2")
    with pytest.raises(ConflictError, match="is version 2 now and was version 1 when this change was decided"):
        aliases.promote(registry, "3", "1", PASSED, why="passed every gate")
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}


def test_of_two_promotions_at_the_same_time_one_wins_and_the_other_is_told(client, registry):
    champions(registry, "1")

    def other_promotes(request: str) -> None:
        if request == "create_model_version":
            aliases.promote(registry, "3", "1", PASSED, why="faster")

    late = Registry(Hook(client, other_promotes), registry.name)
    with pytest.raises(ConflictError, match="is version 3 now and was version 1"):
        aliases.promote(late, "2", "1", PASSED, why="slower")
    assert registry.aliases() == {CHAMPION: "3", PREVIOUS: "1"}
    assert [(event.version, event.lost) for event in registry.history().events[1:]] == [("3", False), ("2", True)]


def test_a_command_that_sets_an_alias_late_corrects_it(client, registry):
    champions(registry, "1")
    waiting = [True]

    def other_promotes(request: str) -> None:
        if request == "set_registered_model_alias" and waiting:
            waiting.clear()
            aliases.promote(registry, "3", "2", PASSED, why="meanwhile")

    aliases.promote(Registry(Hook(client, other_promotes), registry.name), "2", "1", PASSED, why="slow")
    assert registry.aliases() == {CHAMPION: "3", PREVIOUS: "2"}
    assert aliases.settle(registry) == aliases.Settled()


@pytest.mark.system
@pytest.mark.parametrize("command", ["promote", "undo"])
def test_a_command_killed_at_any_request_leaves_one_champion_and_a_record_that_is_completed(client, registry, command):
    champions(registry, "1", "2")
    state = registry.history().state
    request = 0
    while True:
        request += 1
        left = [request]

        def interrupt(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Interrupted

        interrupted = Registry(Hook(client, interrupt), registry.name)
        known = registry.history().head
        if command == "undo":
            client.set_registered_model_alias(registry.name, CHAMPION, "3")
        try:
            if command == "promote":
                former = state.aliases[CHAMPION]
                aliases.promote(interrupted, "3" if former == "2" else "2", former, PASSED, why="passed every gate")
            else:
                aliases.undo(interrupted, why="a mistake")
            break
        except Interrupted:
            settled = aliases.settle(registry)
        written = registry.history().head > known
        state = registry.history().state
        recorded = dict(state.aliases)
        if command == "undo" and not written:
            assert settled.by_hand == {CHAMPION: ("2", "3")}
        else:
            assert settled.by_hand == {}
            assert {alias: registry.aliases().get(alias) for alias in ALIASES if alias != CHALLENGER} == recorded
        assert registry.history().pending == ()
    assert request > 8


class Lossy:
    """A client that loses the first answer of one method, after the request or before it."""

    def __init__(self, client, lost: str, arrives: bool) -> None:
        self.client, self.lost, self.arrives = client, [lost], arrives

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            if name not in self.lost:
                return method(*arguments, **options)
            self.lost.clear()
            if self.arrives:
                method(*arguments, **options)
            raise ConnectionError("no answer")

        return call


@pytest.mark.parametrize("request_name", ["create_model_version", "set_registered_model_alias", "get_registered_model"])
@pytest.mark.parametrize("arrives", [True, False])
def test_an_event_is_written_once_although_an_answer_is_lost(client, registry, monkeypatch, request_name, arrives):
    monkeypatch.setattr(answers, "PAUSES_S", (0.0, 0.0))
    aliases.promote(Registry(Lossy(client, request_name, arrives), registry.name), "1", None, PASSED, why="better")
    assert registry.aliases() == {CHAMPION: "1"}
    assert [event.applied for event in registry.history().events] == [True]


def test_two_commands_that_set_one_alias_together_do_not_fail(client, registry, monkeypatch):
    monkeypatch.setattr(answers, "PAUSES_S", (0.0, 0.0))
    collisions = ["set_registered_model_alias"]

    def collide(request: str) -> None:
        if request in collisions:
            collisions.clear()
            raise MlflowException("duplicate key value violates unique constraint", BAD_REQUEST)

    assert aliases.challenge(Registry(Hook(client, collide), registry.name), "1", PASSED) is not None
    assert registry.aliases() == {CHALLENGER: "1"} and not collisions


def test_a_server_that_does_not_answer_is_reported_in_one_sentence(client, registry, monkeypatch):
    monkeypatch.setattr(answers, "PAUSES_S", (0.0, 0.0))

    def refuse(_: str) -> None:
        raise ConnectionError("connection refused")

    with pytest.raises(TrackingError, match=r"cannot .* in .* \(connection refused\)"):
        aliases.rollback(Registry(Hook(client, refuse), registry.name), why="an incident")


def test_a_champion_made_by_hand_is_found_and_blocks_promotion(client, registry):
    champions(registry, "1")
    client.set_registered_model_alias(registry.name, CHAMPION, "3")
    settled = aliases.settle(registry)
    assert settled.by_hand == {CHAMPION: ("1", "3")}
    assert "champion is 3 instead of 1" in settled.sentence(registry.name)
    with pytest.raises(RegistryError, match="changed by hand"):
        aliases.promote(registry, "2", "3", PASSED, why="passed every gate")
    assert aliases.challenge(registry, "2", PASSED) is not None
    assert registry.aliases() == {CHAMPION: "3", CHALLENGER: "2"}


def test_a_change_made_by_hand_is_adopted(client, registry):
    champions(registry, "1")
    client.set_registered_model_alias(registry.name, CHAMPION, "3")
    event = aliases.adopt(registry, why="intended")
    assert (event.kind, event.version, event.forced) == ("adopt", "3", True)
    assert registry.aliases() == {CHAMPION: "3", PREVIOUS: "1"}
    assert aliases.settle(registry).by_hand == {}


def test_a_change_made_by_hand_is_undone(client, registry):
    champions(registry, "1")
    client.set_registered_model_alias(registry.name, CHAMPION, "3")
    client.set_registered_model_alias(registry.name, PREVIOUS, "2")
    aliases.undo(registry, why="a mistake")
    assert registry.aliases() == {CHAMPION: "1"}
    with pytest.raises(RegistryError, match="no alias of .* was changed by hand"):
        aliases.undo(registry, why="again")


def test_a_rejected_champion_made_by_hand_is_adopted_by_force_only(client, registry):
    champions(registry, "1")
    aliases.reject(registry, "2", why="wrong labels")
    client.set_registered_model_alias(registry.name, CHAMPION, "2")
    with pytest.raises(RegistryError, match="was rejected"):
        aliases.adopt(registry, why="intended")
    aliases.adopt(registry, why="the labels were right", forced=True)
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}


def test_after_the_champion_is_deleted_undo_returns_to_the_one_before(client, registry):
    champions(registry, "1", "2", "3")
    client.delete_model_version(registry.name, "3")
    assert aliases.settle(registry).by_hand == {CHAMPION: ("3", None)}
    with pytest.raises(RegistryError, match="would have no champion"):
        aliases.adopt(registry, why="intended")
    aliases.undo(registry, why="deleted by mistake")
    assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}


def test_promotions_of_an_earlier_release_are_imported_once(client, registry, monkeypatch):
    name = f"old-{time.monotonic_ns()}"
    client.create_registered_model(name)
    for package in "ab":
        version(client, name, package, package)
    for number, (former, latter) in enumerate([(None, "1"), ("1", "2")], start=1):
        entry = {"time": f"2026-01-0{number}T00:00:00+00:00", "from": former, "to": latter, "gates": []}
        client.set_registered_model_tag(name, f"promotion.{number:04d}", json.dumps(entry))
    client.set_registered_model_alias(name, CHAMPION, "2")
    client.set_registered_model_alias(name, CHALLENGER, "2")
    for _ in range(2):
        old = Registry.open(client, name)
        assert aliases.settle(old).by_hand == {}
        assert [(event.kind, event.version) for event in old.history().events] == [
            ("import", "1"),
            ("import", "2"),
            ("import", None),
        ]
        assert old.aliases() == {CHAMPION: "2", CHALLENGER: "2", PREVIOUS: "1"}


def test_two_registrations_of_one_package_at_the_same_time_make_one_version(client, registry, monkeypatch):
    experiment = client.create_experiment(registry.name)
    model_id = client.create_logged_model(experiment, name="mobanet").model_id
    monkeypatch.setattr(mlflow.tracking._model_registry.utils, "_registry_uri", None)
    mlflow.set_tracking_uri(client.tracking_uri)
    tags = {PACKAGE_SHA256: "e" * 64}
    assert registry.add(model_id, None, tags) == "5"
    assert registry.add(model_id, None, tags) == "5"
    assert [found.number for found in registry.versions()] == ["1", "2", "3", "4", "5"]
    assert registry.find("e" * 64) == "5"
    mlflow.set_tracking_uri(None)


def test_the_history_of_a_model_is_not_registered_as_a_model(client):
    with pytest.raises(RegistryError, match="choose a name without"):
        Registry(client, "city.history")
