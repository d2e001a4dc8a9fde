"""Find registered versions by what a user writes: `NAME@ALIAS`, `NAME/VERSION`, or a version or alias of one model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from components.common.errors import TrackingError
from components.common.tracking import server
from components.common.tracking.registered_models import SCHEME
from components.register.history.aliases import RegistryError, settle
from components.register.history.registry import Registry, Version


@dataclass(frozen=True, slots=True)
class Reference:
    """A version as a user names it."""

    name: str  # registered model
    key: str  # version number, or alias

    @classmethod
    def of(cls, text: str, name: str) -> Reference:
        """Read a reference; `name` is the registered model of a reference that names none."""
        text = text.removeprefix(SCHEME)
        for separator in "@/":
            before, found, after = text.rpartition(separator)
            if found:
                return cls(before, after)
        return cls(name, text)


@contextmanager
def opened(name: str) -> Iterator[Registry]:
    """A registered model that exists. In the block, a request that MLflow rejects becomes one sentence.

    Raises:
        TrackingError: MLflow cannot be used, has no registered model of this name, or rejects a request.
        RegistryError: the name is that of a history.
    """
    client = server.connect()
    from mlflow.exceptions import MlflowException

    try:
        if not Registry(client, name).exists():
            raise TrackingError(
                f"{server.address()} has no registered model {name}; correct the name or MLFLOW_TRACKING_URI, or run "
                "the register step first"
            )
        yield Registry.open(client, name)
    except MlflowException as error:
        raise TrackingError(f"the registry in {server.address()} rejected a request: {server.quoted(error)}") from None


def find_to_change(registry: Registry, key: str) -> Version:
    """Like `find`, for commands that change aliases: an interrupted change is completed first.

    Without this, an alias could be that of before the interrupted change.

    Raises:
        RegistryError: the alias was removed by hand.
        TrackingError: the model has no such version or alias.
    """
    settled = settle(registry)
    if settled.by_hand.get(key, ("", ""))[1] is None:
        raise RegistryError(settled.sentence(registry.name))
    return find(registry, key)


def find(registry: Registry, key: str) -> Version:
    """A version of a registered model.

    Args:
        registry: the registered model.
        key: version number, or alias.

    Raises:
        TrackingError: the model has no such version or alias.
    """
    versions = {version.number: version for version in registry.versions()}
    aliases = registry.aliases()
    found = versions.get(aliases.get(key, key))
    if found is None:
        known = ", ".join([*versions, *aliases]) or "no version"
        raise TrackingError(f"{registry.name} has no version or alias {key!r}; it has {known}")
    return found
