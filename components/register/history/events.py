"""The history of a registered model as data: events in order, and the aliases that follow from them.

An event names the aliases that it expects and those that it sets. It takes effect only if every expectation holds when
its turn comes; otherwise it is lost. So two people who promote at the same time cannot both win, whatever the order of
their requests. Numbers in, states out; independent of MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous-champion"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)

Kind = Literal["register", "promote", "rollback", "reject", "adopt", "undo", "rescore", "import", "unreadable"]
Aliases = Mapping[str, str | None]
"""Alias -> version; None: the alias does not exist."""

FORMAT = 1
"""Format version of an event; increased when a current reader could misread an older one."""

LIMIT = 60_000
"""Longest event as JSON; a tag in MySQL holds 65,535 bytes."""

WIDTHS = (400, 60, 20)
"""Longest texts of a gate in an event that would exceed the limit, tried in this order."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a registered model, or one attempt."""

    id: str  # random; a request that is sent twice makes two entries with one id
    time: str  # UTC, ISO 8601
    kind: Kind
    version: str | None  # the version that the event is about
    expects: Aliases = field(default_factory=dict)  # what must hold before
    sets: Aliases = field(default_factory=dict)  # what holds afterwards
    who: str = ""
    why: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()  # verdicts of promotion, as mappings
    digest: str | None = None  # identity of the version: its tag `package_sha256`
    forced: bool = False  # whether a failed gate or an earlier rejection was overruled
    found: Aliases = field(default_factory=dict)  # adopt and undo: the aliases that were made by hand
    replaces: str | None = None  # rescore: the version with the same weights and the earlier evaluation
    number: int = 0  # position in the history, from 1
    applied: bool = False  # whether the aliases in MLflow were set after the event
    lost: bool = False  # whether the event has no effect, because an expectation did not hold

    def to_json(self) -> str:
        """JSON of at most `LIMIT` characters: texts of gates are shortened if necessary, figures and verdicts stay."""
        content = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in STORED},
            "gates": [dict(gate) for gate in self.gates],
        }
        text = json.dumps(content)
        for width in WIDTHS:
            if len(text) <= LIMIT:
                break
            gates = [{key: _shortened(value, width) for key, value in gate.items()} for gate in self.gates]
            text = json.dumps(content | {"why": _shortened(self.why, 10 * width), "gates": gates})
        return text

    @classmethod
    def from_json(cls, text: str | None, number: int, applied: bool) -> Event:
        """Read what `to_json` wrote. Anything else becomes an event of the kind `unreadable`, which has no effect."""
        try:
            content = json.loads(text or "")
            newer = content["format"] > FORMAT
            fields = {name: content[name] for name in STORED}
            if newer or fields["kind"] not in get_args(Kind):
                raise ValueError(text)
            fields["gates"] = tuple(fields["gates"])
            return cls(**fields, number=number, applied=applied)
        except (ValueError, KeyError, TypeError):
            return cls(f"unreadable-{number}", "", "unreadable", None, number=number, lost=True)


STORED = (
    *(
        "id",
        "time",
        "kind",
        "version",
        "expects",
        "sets",
        "who",
        "why",
        "gates",
        "digest",
        "forced",
        "found",
        "replaces",
    ),
)  # fields of an event that are in its JSON


def _shortened(value: Any, width: int) -> Any:
    return f"{value[: width - 3]}..." if isinstance(value, str) and len(value) > width else value


@dataclass(frozen=True, slots=True)
class State:
    """What holds after an event."""

    aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> version; without those that do not exist
    line: tuple[str, ...] = ()  # champions, oldest first, without those that were rolled back or rejected
    rejected: frozenset[str] = frozenset()
    pardoned: frozenset[str] = frozenset()  # versions that were promoted although they had been rejected

    def matches(self, expects: Aliases) -> bool:
        """Whether the aliases are the expected ones."""
        return all(self.aliases.get(alias) == version for alias, version in expects.items())

    def refuses(self, event: Event) -> bool:
        """Whether an event has no effect: an alias has moved, or a rejected version would become champion."""
        champion = event.sets.get(CHAMPION)
        returns = champion in self.rejected and champion != self.aliases.get(CHAMPION) and not event.forced
        dismisses = event.kind == "reject" and event.version == self.aliases.get(CHAMPION)
        return not self.matches(event.expects) or returns or dismisses

    def after(self, event: Event) -> State:
        """The state after an event that takes effect."""
        aliases = {alias: version for alias, version in {**self.aliases, **event.sets}.items() if version is not None}
        line, rejected, pardoned = self.line, self.rejected, self.pardoned
        champion = aliases.get(CHAMPION)
        if event.kind == "rescore" and event.version is not None and event.replaces is not None:
            line = _replaced(line, event.replaces, event.version)
            if event.replaces in rejected:  # the weights are rejected, whatever their checksum is in another release
                rejected = rejected | {event.version}
            if event.replaces in pardoned:
                pardoned = pardoned | {event.version}
        if champion is not None and champion != self.aliases.get(CHAMPION):
            line = _extended(line, champion, event.kind)
            if event.forced:
                rejected, pardoned = rejected - {champion}, pardoned | {champion}
        if event.kind == "reject" and event.version is not None:
            line = tuple(version for version in line if version != event.version)
            rejected, pardoned = rejected | {event.version}, pardoned - {event.version}
        return State(aliases, line, rejected, pardoned)


def _replaced(line: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """The line with `new` in the place of `old`; a version that is in it twice keeps the later place."""
    changed = [new if number == old else number for number in line]
    return tuple(number for i, number in enumerate(changed) if number not in changed[i + 1 :])


def _extended(line: tuple[str, ...], champion: str, kind: Kind) -> tuple[str, ...]:
    if kind == "rollback" and champion in line:
        return line[: line.index(champion) + 1]
    return (*(version for version in line if version != champion), champion)


@dataclass(frozen=True, slots=True)
class History:
    """All events, oldest first, with what follows from them."""

    events: tuple[Event, ...] = ()
    states: tuple[State, ...] = (State(),)  # states[i]: before events[i]; the last one: now

    @classmethod
    def of(cls, written: Iterable[Event]) -> History:
        """Go through the events in the order of their numbers and decide which ones take effect."""
        events: list[Event] = []
        states = [State()]
        seen: set[str] = set()
        for event in written:
            lost = event.lost or event.id in seen or states[-1].refuses(event)
            seen.add(event.id)
            events.append(replace(event, lost=lost))
            states.append(states[-1] if lost else states[-1].after(event))
        return cls(tuple(events), tuple(states))

    @property
    def state(self) -> State:
        """What holds now."""
        return self.states[-1]

    @property
    def head(self) -> int:
        """Number of the last event; 0: there is none."""
        return self.events[-1].number if self.events else 0

    @property
    def pending(self) -> tuple[Event, ...]:
        """Events that take effect and that are not marked as applied: their command was interrupted or still runs."""
        return tuple(event for event in self.events if not (event.lost or event.applied))

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers without an event: somebody deleted them."""
        return tuple(sorted(set(range(1, self.head + 1)) - {event.number for event in self.events}))

    def event(self, identity: str) -> Event | None:
        """The first event with this id."""
        return next((event for event in self.events if event.id == identity), None)

    def has_rescored(self, old: str, new: str) -> bool:
        """Whether an event records that `new` has the weights of `old` with another evaluation."""
        return any((event.replaces, event.version, event.lost) == (old, new, False) for event in self.events)

    def expected(self, alias: str, since: int | None) -> set[str | None]:
        """Values of an alias in MLflow that events explain.

        Args:
            alias: name of the alias.
            since: number of the first event that may not be applied yet; None: all are applied.
        """
        first = next((i for i, event in enumerate(self.events) if since is not None and event.number >= since), None)
        if first is None:
            return {self.state.aliases.get(alias)}
        found = {event.found[alias] for event in self.events[first:] if alias in event.found and not event.lost}
        return found | {state.aliases.get(alias) for state in self.states[first:]}
