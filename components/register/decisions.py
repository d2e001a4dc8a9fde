"""Decide about registered versions: compare two, promote, roll back, reject, and treat changes made by hand.

A version is read back through the registry before it becomes the champion: it is loaded and gives its stored logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.common.errors import TrackingError
from components.common.tracking.registered_models import PACKAGE_SHA256
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED
from components.register.config import RegisterConfig
from components.register.history import aliases
from components.register.history.events import CHAMPION, PREVIOUS, Event
from components.register.history.ledger import RegistryError
from components.register.history.registry import Registry, Version
from components.register.promotion import Gate, PromotionRecord, judge
from components.register.uploads.admission import Candidate, admit
from components.register.uploads.readback import read_back, signature_of

RESCORED = "rescored_from"
"""Tag of a version: the version with the same weights and an earlier evaluation."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The gates of a version against another one."""

    candidate: str  # version
    champion: str | None  # version; None: there is none
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate passes every gate."""
        return all(gate.passed for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a command that changes aliases."""

    name: str
    version: str | None  # that the command is about
    champion: str | None  # after the command
    changed: bool  # whether the command changed anything
    outcome: str  # one sentence
    gates: tuple[Gate, ...] = ()
    event: Event | None = None  # entry in the history


def compare(
    ours: Registry,
    candidate: Version,
    theirs: Registry,
    champion: Version | None,
    config: RegisterConfig,
    trust: TrustConfig = UNCHECKED,
) -> Comparison:
    """Judge a version against another one, which may be of another registered model.

    Args:
        ours: registered model of the candidate.
        candidate: the version to judge.
        theirs: registered model of the champion.
        champion: the version to compare with; None: there is no champion.
        config: limits of the gates.
        trust: section `trust`.

    Raises:
        TrackingError: the candidate has no figures that this release can read, or its signature cannot be read.
        TrustError: the public key cannot be used.
    """
    figures = _figures(ours, candidate)
    other = None if champion is None else theirs.promotion_record(champion.number)
    signature = signature_of(ours.name, candidate.number, trust)
    gates = judge(figures, other, config, first=champion is None, signature=signature)
    return Comparison(candidate.number, None if champion is None else champion.number, gates)


def promote(
    registry: Registry,
    candidate: Version,
    config: RegisterConfig,
    trust: TrustConfig = UNCHECKED,
    *,
    why: str,
    forced: bool = False,
) -> Decision:
    """Make a version the champion if it passes every gate against the current one, or if `forced`.

    Force does not overrule the gate `signature`, because predict and serve would refuse such a champion.

    Raises:
        TrustError: forced, but the signature is wrong, or missing although it is required.
        ConflictError: another champion was made while this version was judged.
        RegistryError: the version was rejected, or aliases were changed by hand.
        TrackingError: the version cannot be read back, or has no figures.
    """
    require_settled(registry)
    number, name = candidate.number, registry.name
    champion = registry.champion()
    if champion == number:
        return Decision(name, number, champion, False, f"version {number} of {name} is already the champion")
    now = next((version for version in registry.versions() if version.number == champion), None)
    judged = compare(registry, candidate, registry, now, config, trust)
    if not judged.passed and not forced:
        failed = ", ".join(gate.name for gate in judged.gates if not gate.passed)
        outcome = f"version {number} of {name} is not promoted ({failed}); {_stays(champion)}"
        return Decision(name, number, champion, False, outcome, judged.gates)
    read_back(name, number, trust)
    event = aliases.promote(registry, number, champion, judged.gates, why=why, forced=forced)
    outcome = f"version {number} of {name} is the champion now; previous champion: {champion or 'none'}"
    return Decision(name, number, number, True, outcome, judged.gates, event)


def rollback(registry: Registry, trust: TrustConfig = UNCHECKED, *, why: str) -> Decision:
    """Make the previous champion the champion again.

    Raises:
        TrustError: its signature is wrong, or missing although it is required.
        ConflictError: another champion was made in the meantime.
        RegistryError: there is no previous champion, it was rejected, or aliases were changed by hand.
        TrackingError: the previous champion cannot be read back.
    """
    require_settled(registry)
    seen = registry.aliases()
    target = next((version for version in registry.versions() if version.number == seen.get(PREVIOUS)), None)
    known = target is not None and PACKAGE_SHA256 in target.tags  # an earlier release stored no crops
    if target is not None and (known or trust.require_signature):
        read_back(registry.name, target.number, trust)
    event = aliases.rollback(registry, why=why, seen=seen)
    now, before = event.sets[CHAMPION], event.expects[CHAMPION]
    outcome = f"version {now} of {registry.name} is the champion again; version {before} is not"
    return Decision(registry.name, now, now, True, outcome, event=event)


def replace_scores(
    registry: Registry,
    old: Version,
    package: Path,
    run_id: str | None,
    trust: TrustConfig = UNCHECKED,
    *,
    why: str,
) -> Decision:
    """Register the same weights with another evaluation; the new version takes over the aliases of the old one.

    Args:
        registry: the registered model.
        old: the version with these weights.
        package: the exported weights with the new evaluation.
        run_id: MLflow run of the training; None: not tracked.
        trust: section `trust`.
        why: reason, for the history.

    Raises:
        TrustError: the package is not signed as `trust` demands.
        TrackingError: the new version cannot be uploaded or read back.
        ConflictError: the aliases of the old version were changed in the meantime.
    """
    name, made = registry.name, admit(registry, Candidate.of(package, trust), run_id, trust)
    if made.version == old.number:
        outcome = f"version {made.version} of {name} already has these scores"
        return Decision(name, made.version, registry.champion(), False, outcome)
    registry.ledger.client.set_model_version_tag(name, made.version, RESCORED, old.number)
    history = aliases.settle(registry).history
    done = history.has_rescored(old.number, made.version) and old.number not in history.state.aliases.values()
    event = None if done else aliases.rescored(registry, old.number, made.version, why=why)
    taken = [] if event is None else list(event.expects)
    moved = f"; it takes over {', '.join(taken)}" if taken else ""
    outcome = f"version {made.version} of {name} is version {old.number} with new scores{moved}"
    return Decision(name, made.version, registry.champion(), event is not None, outcome, event=event)


def reject(registry: Registry, version: Version, *, why: str) -> Decision:
    """Reject a version, so that only a forced promotion can make it the champion.

    Raises:
        RegistryError: it is the champion, or is rejected already.
    """
    event = aliases.reject(registry, version.number, why=why)
    outcome = f"version {version.number} of {registry.name} is rejected"
    return Decision(registry.name, version.number, registry.champion(), True, outcome, event=event)


def adopt(registry: Registry, *, why: str, forced: bool = False) -> Decision:
    """Accept aliases that were changed by hand."""
    return _by_hand(registry, aliases.adopt(registry, why=why, forced=forced), "accepted")


def undo(registry: Registry, *, why: str) -> Decision:
    """Set aliases that were changed by hand back to the recorded versions."""
    return _by_hand(registry, aliases.undo(registry, why=why), "reverted")


def _by_hand(registry: Registry, event: Event, done: str) -> Decision:
    moved = ", ".join(sorted(event.found))
    outcome = f"the change by hand of {moved} of {registry.name} is {done}"
    return Decision(registry.name, event.version, registry.champion(), True, outcome, event=event)


def require_settled(registry: Registry) -> None:
    """Complete an interrupted change, so that every alias in MLflow is the recorded one.

    Raises:
        RegistryError: aliases were changed by hand.
    """
    settled = aliases.settle(registry)
    if settled.by_hand:
        raise RegistryError(settled.sentence(registry.name))


def _figures(registry: Registry, version: Version) -> PromotionRecord:
    figures = registry.promotion_record(version.number)
    if figures is None:
        raise TrackingError(
            f"version {version.number} of {registry.name} has no figures that this release can compare; run "
            f"`mobanet registry rescore {registry.name}/{version.number}`, or export and register the model again"
        )
    return figures


def _stays(champion: str | None) -> str:
    return f"version {champion} stays the champion" if champion else "there is no champion"
