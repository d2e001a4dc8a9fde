"""Change the aliases of a registered model: write an event, see whether it takes effect, then set the aliases.

The history decides, and the aliases in MLflow are a copy of its result. If a command is interrupted after its event is
written, the next command sets the aliases. An alias in MLflow that no event explains was changed by hand.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from components.common.errors import TrackingError
from components.common.tracking.registered_models import PACKAGE_SHA256
from components.register.history.events import ALIASES, CHAMPION, Aliases, Event, History, Kind
from components.register.history.ledger import ConflictError, RegistryError, who
from components.register.history.registry import Registry
from components.register.promotion import Gate

ROUNDS = 50
"""How often the aliases are set again because another command adds events at the same time."""

GRACE_S = 0.5
"""Time after which an unexplained alias counts as changed by hand: another command may be about to correct it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What `settle` found."""

    completed: Event | None = None  # the last event whose command had been interrupted
    by_hand: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)  # alias -> (recorded, in MLflow)
    history: History = field(default_factory=History, repr=False, compare=False)

    def sentence(self, name: str) -> str:
        """The aliases changed by hand, and what to do about them."""
        changes = "; ".join(
            f"{alias} is {actual or 'removed'} instead of {recorded or 'none'}"
            for alias, (recorded, actual) in sorted(self.by_hand.items())
        )
        return (
            f"aliases of {name} were changed by hand ({changes}); run `mobanet registry verify --adopt --because TEXT` "
            "to accept the change, or use --undo in place of --adopt to revert it"
        )


def settle(registry: Registry) -> Settled:
    """Complete an interrupted change, and find aliases that were changed by hand.

    Raises:
        TrackingError: other commands change the aliases all the time.
    """
    return _set_aliases(registry, registry.history(), None)


def change(
    registry: Registry,
    kind: Kind,
    version: str | None,
    *,
    expects: Aliases,
    sets: Aliases,
    why: str,
    gates: Sequence[Gate] = (),
    forced: bool = False,
    found: Aliases | None = None,
    replaces: str | None = None,
    settled: Settled | None = None,
) -> Event:
    """Record an event and set the aliases.

    Args:
        registry: the registered model.
        kind: kind of the event.
        version: the version that the event is about.
        expects: alias -> version that must hold; the event has no effect otherwise.
        sets: alias -> new version; None removes the alias.
        why: reason, for the history.
        gates: verdicts of promotion.
        forced: whether a failed gate or a rejection is overruled.
        found: adopt and undo: the aliases that were made by hand.
        replaces: rescore: the version with the earlier evaluation.
        settled: what `settle` has just found; None: it is called first.

    Raises:
        ConflictError: an expectation does not hold, because another command changed the registry.
        RegistryError: one of these aliases was changed by hand, or the version does not exist.
    """
    settled = settled or settle(registry)
    if found is None and settled.by_hand.keys() & (expects.keys() | sets.keys()):
        raise RegistryError(settled.sentence(registry.name))
    event = Event(
        id=uuid.uuid4().hex,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=kind,
        version=version,
        expects=dict(expects),
        sets=dict(sets),
        who=who(),
        why=why,
        gates=tuple(asdict(gate) for gate in gates),
        digest=None if version is None else registry.tags(version).get(PACKAGE_SHA256),
        forced=forced,
        found=dict(found or {}),
        replaces=replaces,
    )
    if settled.history.state.refuses(event):
        raise ConflictError(_conflict(registry.name, event, settled.history.state.aliases))
    registry.ledger.append(event)
    history = registry.history()
    mine = history.event(event.id)
    if mine is None:
        raise TrackingError(
            f"{registry.ledger.name} does not list the event that was just written; run the command again"
        )
    if mine.lost:
        raise ConflictError(_conflict(registry.name, event, history.states[history.events.index(mine)].aliases))
    _set_aliases(registry, history, mine.number)
    return replace(mine, applied=True)


def _conflict(name: str, event: Event, aliases: Mapping[str, str]) -> str:
    moved = [alias for alias, version in event.expects.items() if aliases.get(alias) != version]
    if moved:
        alias, wanted, actual = moved[0], event.expects[moved[0]], aliases.get(moved[0])
        return (
            f"the {alias} of {name} is {_called(actual)} now and was {_called(wanted)} when this change was decided; "
            "nothing was changed, run the command again"
        )
    if event.kind == "reject":
        return f"version {event.version} of {name} has become the champion; run `mobanet registry rollback` first"
    return f"version {event.sets.get(CHAMPION)} of {name} was rejected; see `mobanet registry history`"


def _called(version: str | None) -> str:
    return f"version {version}" if version else "none"


def _set_aliases(registry: Registry, history: History, since: int | None) -> Settled:
    """Set the aliases in MLflow to the result of the history, until nobody adds an event in the meantime.

    Args:
        registry: the registered model.
        history: its history, just read.
        since: number of the event that this command added. Values of aliases from before it are not changes by hand.
    """
    completed: Event | None = None
    unexplained: dict[str, tuple[str | None, str | None]] = {}
    for _ in range(ROUNDS):
        actual = registry.aliases()
        first = min((event.number for event in history.pending), default=None)
        since = min((number for number in (since, first) if number is not None), default=None)
        odd = {alias: (history.state.aliases.get(alias), actual.get(alias)) for alias in ALIASES}
        odd = {alias: pair for alias, pair in odd.items() if pair[0] != pair[1]}
        if _correct(registry, history, odd, since):
            continue
        if registry.ledger.head() != history.head:
            history = registry.history()
        elif odd != unexplained:  # seen for the first time
            unexplained = odd
            time.sleep(GRACE_S if odd else 0)
            history = registry.history()
        else:
            for event in history.pending:
                registry.ledger.mark_applied(event)
                completed = event
            return Settled(completed, odd, history)
    raise TrackingError(f"other commands change the aliases of {registry.name} all the time; run the command again")


def _correct(
    registry: Registry, history: History, odd: Mapping[str, tuple[str | None, str | None]], since: int | None
) -> bool:
    """Set the aliases whose values are from before an event. Returns whether one was set."""
    late = [alias for alias, (_, actual) in odd.items() if actual in history.expected(alias, since)]
    return any([registry.point(alias, odd[alias][0]) for alias in late])
