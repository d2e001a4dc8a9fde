"""Random commands on one registered model, with kills, races and changes by hand, and what must hold after each."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

from components.common.tracking.registered_models import PACKAGE_SHA256, SHA256
from components.register.history import aliases
from components.register.history.events import ALIASES, CHALLENGER, CHAMPION
from components.register.history.registry import Registry
from components.register.promotion import Gate

PASSED = (Gate("expected mIoU", "81.00", "80.00", "+1.00", "higher", True),)
FAILED = (Gate("expected mIoU", "79.00", "80.00", "-1.00", "higher", False),)
COMMANDS = {"register": 4, "again": 1, "rescore": 1, "promote": 2, "force": 1, "rollback": 2, "reject": 1, "race": 2}
BY_HAND = {"move": 1, "delete alias": 0.4, "delete version": 0.6}
KILLED, DONE = "killed", "done"

Command = Callable[[Registry], None]


class Killer:
    """A client that kills its process at a request: before it is sent, or after its answer."""

    def __init__(self, client, request: int, before: bool) -> None:
        self.client, self.left, self.before = client, request, before

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0 and self.before:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = method(*arguments, **options)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


class Remembering(Registry):
    """A registry that remembers the aliases that it read last."""

    def aliases(self) -> dict[str, str]:
        self.last = super().aliases()
        return self.last


def outcome(command: Command, registry: Registry) -> str:
    try:
        command(registry)
    except aliases.RegistryError as error:
        return f"refused: {error}"
    return DONE


class Process:
    """A command in a process of its own, with connections of its own."""

    def __init__(self, command: Command, registry: Registry, forget_connections: Callable[[], None]) -> None:
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.read)
                forget_connections()
                text = outcome(command, registry)
            except BaseException as error:
                text = f"error: {error!r}"
            os.write(write, text.encode()[:60_000])
            os._exit(0)
        os.close(write)

    def outcome(self) -> str:
        with os.fdopen(self.read) as pipe:
            text = pipe.read()
        os.waitpid(self.pid, 0)
        return text or KILLED


class Sequence:
    """One registered model and the commands so far."""

    def __init__(self, client, name: str, seed: int, model_id: str, forget_connections: Callable[[], None]) -> None:
        self.client, self.name, self.model_id, self.forget = client, name, model_id, forget_connections
        self.random = random.Random(seed)
        self.registry = Remembering.open(client, name)
        self.hand: dict[str, str | None] = {}  # alias -> version that was set by hand, until it is adopted or undone
        self.known = 0  # number of the last event that was checked
        self.packages = 0
        self.log: list[str] = []

    def run(self, commands: int) -> None:
        for _ in range(commands):
            if self.random.random() < 0.15 and self.registry.versions():
                self.by_hand()
            elif self.step() == KILLED and self.random.random() < 0.5:
                continue  # the next command, not a check, completes what was interrupted
            self.check()
        self.check()
        assert not self.registry.history().pending

    def step(self) -> str:
        """One command, in this process, or in another one that may be killed."""
        choices = COMMANDS | ({"adopt": 3, "undo": 3} if self.hand else {})
        (kind,) = self.random.choices(list(choices), list(choices.values()))
        if kind == "race":
            return self.race()
        command = self.command(kind)
        request, before = self.random.randint(1, 22), self.random.random() < 0.5
        if self.random.random() < 0.3:
            killer = Registry(Killer(self.client, request, before), self.name)
            found = Process(command, killer, self.forget).outcome()
        else:
            found = outcome(command, self.registry)
        self.log.append(f"{kind} {command.__doc__ or ''}: {found}")
        assert not found.startswith("error"), found
        return found

    def race(self) -> str:
        """Two commands at the same time. Of two promotions judged against the same champion, one may win."""
        kinds = ["promote", "promote"] if self.random.random() < 0.6 else self.random.choices(list(COMMANDS)[:-1], k=2)
        before = self.registry.history()
        both = [self.command(kind) for kind in kinds]
        found = [process.outcome() for process in [Process(c, self.registry, self.forget) for c in both]]
        self.log.append(f"race {kinds}: {found}")
        assert not any(text.startswith("error") for text in found), found
        if kinds == ["promote", "promote"]:
            new = [event for event in self.registry.history().events if event.number > before.head]
            won = [event for event in new if event.kind == "promote" and not event.lost]
            assert len(won) == found.count(DONE) <= 1, (found, new)
        return DONE

    def command(self, kind: str) -> Command:
        """A command with everything random already drawn."""
        numbers = [version.number for version in self.registry.versions()] or ["1"]
        version, other = self.random.choice(numbers), self.random.choice(numbers)
        passed = self.random.random() < 0.7
        stale = self.random.random() < 0.2
        champion = other if stale else self.registry.champion()
        self.packages += kind in ("register", "rescore")
        package = f"{self.name}-{self.packages if kind != 'again' else self.random.randint(1, self.packages + 1)}"
        model_id, weights = self.model_id, f"weights {version if kind == 'rescore' else package}"
        gates = PASSED if passed else FAILED

        def register(registry: Registry) -> None:
            settled = aliases.settle(registry)
            tags = {SHA256: weights, PACKAGE_SHA256: package}
            number = registry.find(package) or registry.add(model_id, None, tags)
            if kind == "rescore" and number != version:
                aliases.rescored(registry, version, number, why="other test tiles")
                return
            against = registry.champion()
            if settled.by_hand or number in registry.rejected() or number == against:
                return
            aliases.challenge(registry, number, gates)
            if passed:
                aliases.promote(registry, number, against, gates, why="passed every gate")

        def promote(registry: Registry) -> None:
            aliases.promote(registry, version, champion, gates, why="someone asked")

        def force(registry: Registry) -> None:
            aliases.promote(registry, version, champion, gates, why="an incident", forced=True)

        commands: dict[str, Command] = {
            **dict.fromkeys(("register", "again", "rescore"), register),
            "promote": promote,
            "force": force,
            "rollback": lambda registry: aliases.rollback(registry, why="an incident") and None,
            "reject": lambda registry: aliases.reject(registry, version, why="wrong labels") and None,
            "adopt": lambda registry: aliases.adopt(registry, why="intended") and None,
            "undo": lambda registry: aliases.undo(registry, why="a mistake") and None,
        }
        chosen = commands[kind]
        chosen.__doc__ = f"version {version}, package {package}, champion {champion}, gates {passed}"
        return chosen

    def by_hand(self) -> None:
        """Someone uses MLflow's pages."""
        (kind,) = self.random.choices(list(BY_HAND), list(BY_HAND.values()))
        numbers = [version.number for version in self.registry.versions()]
        alias, version = self.random.choice(ALIASES), self.random.choice(numbers)
        actual, state = self.registry.aliases(), self.registry.history().state
        self.log.append(f"by hand: {kind} {alias} {version}")
        if kind == "move":
            self.client.set_registered_model_alias(self.name, alias, version)
            self.hand[alias] = version
        elif kind == "delete alias" and alias in actual:
            self.client.delete_registered_model_alias(self.name, alias)
            self.hand[alias] = None
        elif kind == "delete version" and (not state.line or set(state.line) & (set(numbers) - {version})):
            self.client.delete_model_version(self.name, version)
            self.hand |= {alias: None for alias, held in actual.items() if held == version}
        self.hand = {alias: held for alias, held in self.hand.items() if held != state.aliases.get(alias)}

    def check(self) -> None:
        """What must hold after every command."""
        settled = aliases.settle(self.registry)
        history, actual = settled.history, self.registry.last
        recorded = history.state.aliases
        assert [event.number for event in history.events] == list(range(1, history.head + 1))
        assert all(event.applied or event.lost for event in history.events[self.known :]) or settled.completed
        new = [event for event in history.events if event.number > self.known and not event.lost]
        self.known = history.head
        if any(event.kind in ("adopt", "undo") for event in new):
            self.hand = {}
        explained = {alias: recorded.get(alias) for alias in ALIASES} | self.hand
        assert {alias: actual.get(alias) for alias in ALIASES} == explained, (actual, recorded, self.hand)
        odd = {alias: (recorded.get(alias), version) for alias, version in self.hand.items()}
        assert settled.by_hand == {alias: pair for alias, pair in odd.items() if pair[0] != pair[1]}
        self.replay(history.events, recorded)

    def replay(self, events, recorded) -> None:
        """Follow the events again, in another way, and check each change of the champion."""
        state: dict[str, str | None] = {}
        rejected: set[str] = set()
        champions: list[str] = []
        for event in events:
            met = all(state.get(alias) == version for alias, version in event.expects.items())
            assert met or event.lost, event
            if event.lost:
                continue
            champion = event.sets.get(CHAMPION)
            if champion is not None and champion != state.get(CHAMPION):
                earned = event.kind == "promote" and all(gate["passed"] for gate in event.gates)
                again = event.kind in ("rollback", "undo") and champion in champions
                assert event.forced or earned or again or event.kind == "rescore", event
                assert event.forced or champion not in rejected, event
                assert event.who and event.time and event.why and event.digest, event
                champions.append(champion)
                rejected -= {champion}
            if event.kind == "rescore" and event.replaces in champions:
                champions.append(event.version)
            if event.kind == "reject":
                assert event.version != state.get(CHAMPION), event
                rejected.add(event.version)
            state |= event.sets
            assert not champions or state.get(CHAMPION), event
            assert event.kind != "register" or state[CHALLENGER] not in rejected, event
        assert {alias: version for alias, version in state.items() if version} == recorded
