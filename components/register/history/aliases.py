"""Register, promote, roll back, reject, and accept or undo changes made by hand. Each call is one event of the history.

Every function may raise `RegistryError` (the change is refused), `ConflictError` (the registry has changed since the
decision), `TrackingError` and `MlflowException`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.register.history.alias_changes import Settled, change, settle
from components.register.history.events import CHALLENGER, CHAMPION, PREVIOUS, Event, State
from components.register.history.ledger import ConflictError, RegistryError
from components.register.history.registry import Registry
from components.register.promotion import Gate

__all__ = [
    "ConflictError",
    "RegistryError",
    "Settled",
    "adopt",
    "challenge",
    "change",
    "promote",
    "reject",
    "rescored",
    "rollback",
    "settle",
    "undo",
]


def challenge(registry: Registry, version: str, gates: Sequence[Gate] = (), why: str = "registered") -> Event | None:
    """Give a version the alias `challenger`. None: it has it already, or the version is rejected or the champion."""
    settled = settle(registry)
    state = settled.history.state
    if version in (state.aliases.get(CHALLENGER), state.aliases.get(CHAMPION)) or version in registry.rejected(state):
        return None
    sets = {CHALLENGER: version}
    return change(registry, "register", version, expects={}, sets=sets, gates=gates, why=why, settled=settled)


def promote(
    registry: Registry,
    version: str,
    judged_against: str | None,
    gates: Sequence[Gate],
    *,
    why: str,
    forced: bool = False,
) -> Event:
    """Make a version the champion. The former champion gets the alias `previous-champion`.

    Args:
        registry: the registered model.
        version: the new champion.
        judged_against: the champion that the gates compared it with; None: there was none.
        gates: the verdicts.
        why: reason, for the history.
        forced: promote it although a gate failed or the version was rejected.
    """
    settled = settle(registry)
    state, name = settled.history.state, registry.name
    if state.aliases.get(CHAMPION) == version:
        raise RegistryError(f"version {version} of {name} is already the champion")
    if forced and not why.strip():
        raise RegistryError("a forced promotion needs a reason; add --because TEXT")
    failed = ", ".join(gate.name for gate in gates if not gate.passed)
    if failed and not forced:
        raise RegistryError(
            f"version {version} of {name} failed a gate ({failed}); correct the model, or use --force --because TEXT"
        )
    if not forced and version in registry.rejected(state):
        raise RegistryError(
            f"version {version} of {name} or a version with the same weights was rejected; "
            "see `mobanet registry history`, or use --force --because TEXT"
        )
    return change(
        registry,
        "promote",
        version,
        expects={CHAMPION: judged_against},
        sets={CHAMPION: version, PREVIOUS: judged_against},
        gates=gates,
        why=why,
        forced=forced,
        settled=settled,
    )


def rollback(registry: Registry, *, why: str, seen: Mapping[str, str] | None = None) -> Event:
    """Make the version with the alias `previous-champion` the champion again.

    Args:
        registry: the registered model.
        why: reason, for the history.
        seen: the aliases for which the rollback was decided; None: those of now.
    """
    settled = settle(registry)
    state = settled.history.state
    seen = state.aliases if seen is None else seen
    champion, previous = seen.get(CHAMPION), seen.get(PREVIOUS)
    if champion is None or previous is None:
        raise RegistryError(f"{registry.name} has no previous champion; promote another version instead")
    if previous in registry.rejected(state):
        raise RegistryError(
            f"version {previous} of {registry.name}, the previous champion, has the weights of a rejected version; "
            "promote another version instead"
        )
    before = state.line[: state.line.index(previous)] if previous in state.line else ()
    sets = {CHAMPION: previous, PREVIOUS: _last_existing(registry, before)}
    expects = {CHAMPION: champion, PREVIOUS: previous}
    return change(registry, "rollback", previous, expects=expects, sets=sets, why=why, settled=settled)


def reject(registry: Registry, version: str, *, why: str) -> Event:
    """Reject a version: only a forced promotion can make it the champion. It loses its aliases."""
    settled = settle(registry)
    state = settled.history.state
    aliases = state.aliases
    if aliases.get(CHAMPION) == version:
        raise RegistryError(
            f"version {version} of {registry.name} is the champion; run `mobanet registry rollback` first"
        )
    if version in state.rejected:
        raise RegistryError(f"version {version} of {registry.name} is already rejected")
    replacement = {CHALLENGER: None, PREVIOUS: _previous(registry, state, aliases.get(CHAMPION), version)}
    held = {alias: version for alias in replacement if aliases.get(alias) == version}
    sets = {alias: replacement[alias] for alias in held}
    return change(registry, "reject", version, expects=held, sets=sets, why=why, settled=settled)


def rescored(registry: Registry, old: str, new: str, *, why: str, gates: Sequence[Gate] = ()) -> Event:
    """Record that `new` has the weights of `old` with another evaluation. It takes over the aliases of `old`."""
    settled = settle(registry)
    aliases = settled.history.state.aliases
    held = {alias: old for alias, version in aliases.items() if version == old}
    sets: dict[str, str | None] = dict.fromkeys(held, new)
    champion = sets.get(CHAMPION, aliases.get(CHAMPION))
    if held and champion == sets.get(PREVIOUS, aliases.get(PREVIOUS)) == new:  # no version is its own predecessor
        sets[PREVIOUS] = _previous(registry, settled.history.state, old, new)
    return change(
        registry,
        "rescore",
        new,
        expects=held,
        sets=sets,
        gates=gates,
        why=why,
        replaces=old,
        settled=settled,
    )


def adopt(registry: Registry, *, why: str, forced: bool = False) -> Event:
    """Accept the aliases that were changed by hand.

    Args:
        registry: the registered model.
        why: reason, for the history.
        forced: accept also a champion that was rejected.
    """
    settled = _require_by_hand(registry)
    by_hand, state = settled.by_hand, settled.history.state
    found = {alias: actual for alias, (_, actual) in by_hand.items()}
    expects = {alias: recorded for alias, (recorded, _) in by_hand.items()}
    sets = dict(found)
    if CHAMPION in found:
        champion, former = found[CHAMPION], expects[CHAMPION]
        if champion is None and _last_existing(registry, state.line) is not None:
            raise RegistryError(
                f"{registry.name} would have no champion; run `mobanet registry verify --undo --because TEXT` instead"
            )
        if champion in registry.rejected(state) and not forced:
            raise RegistryError(
                f"version {champion} of {registry.name}, which was made the champion by hand, was rejected; "
                "run `mobanet registry verify --undo --because TEXT`, or use --force with --adopt"
            )
        if PREVIOUS not in found:
            expects[PREVIOUS] = state.aliases.get(PREVIOUS)
            sets[PREVIOUS] = former if former and _exists(registry, former) else _previous(registry, state, champion)
    version = found.get(CHAMPION) or next((v for v in found.values() if v), None)
    forced = forced or found.get(CHAMPION) is not None
    return change(
        registry,
        "adopt",
        version,
        expects=expects,
        sets=sets,
        why=why,
        forced=forced,
        found=found,
        settled=settled,
    )


def undo(registry: Registry, *, why: str) -> Event:
    """Set the aliases that were changed by hand back to the recorded versions; a deleted champion to the one before."""
    settled = _require_by_hand(registry)
    by_hand, state = settled.by_hand, settled.history.state
    found = {alias: actual for alias, (_, actual) in by_hand.items()}
    expects = {alias: recorded for alias, (recorded, _) in by_hand.items()}
    sets = {alias: version if version and _exists(registry, version) else None for alias, version in expects.items()}
    if CHAMPION in sets and sets[CHAMPION] is None:
        sets[CHAMPION] = _last_existing(registry, state.line)
        expects[PREVIOUS] = state.aliases.get(PREVIOUS)
        sets[PREVIOUS] = _previous(registry, state, sets[CHAMPION])
    version = sets.get(CHAMPION) or next((v for v in sets.values() if v), None)
    return change(registry, "undo", version, expects=expects, sets=sets, why=why, found=found, settled=settled)


def _require_by_hand(registry: Registry) -> Settled:
    settled = settle(registry)
    if not settled.by_hand:
        raise RegistryError(f"no alias of {registry.name} was changed by hand")
    return settled


def _exists(registry: Registry, version: str) -> bool:
    return any(known.number == version for known in registry.versions())


def _last_existing(registry: Registry, line: Sequence[str]) -> str | None:
    existing = {version.number for version in registry.versions()}
    return next((version for version in reversed(line) if version in existing), None)


def _previous(registry: Registry, state: State, *others: str | None) -> str | None:
    """The last champion that exists and is not one of `others`."""
    return _last_existing(registry, [version for version in state.line if version not in others])
