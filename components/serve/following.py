"""The model that the service uses now: a package folder, a version, or whatever version an alias names.

A thread looks at the alias. A new version is fetched, checked and opened while the current one serves; then they are
exchanged. Requests that have begun end with the model that they began with. If the registry does not answer or a
version cannot be used, the current one stays.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components.common.errors import MobanetError, ParamsError
from components.common.tracking import registered_models
from components.common.tracking.registered_models import SCHEME, URI
from components.common.tracking.server import quoted
from components.serve.refusals import no_model
from components.serve.served import Identity, Served

if TYPE_CHECKING:
    from components.common.tracking.registered_models import RegisteredVersion

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 300.0
"""Longest time between two tries to fetch a version that cannot be used."""

CLOSING_S = 5.0
"""Time to wait at the end for a look at the alias; a registry that does not answer takes minutes."""

Opener = Callable[[Path, tuple[str, str] | None], Served]
"""Package folder, and name and version in the registry -> the open model."""


class Registry(Protocol):
    """What is needed of the registry; `registered_models` is one."""

    def resolve(self, uri: str, setting: str = ...) -> RegisteredVersion:
        """The version that a URI names now."""

    def fetch_package(self, uri: str, folder: Path, setting: str = ...) -> tuple[Path, RegisteredVersion]:
        """Download and check the package of a version."""


class ModelSource:
    """The current model, and the thread that exchanges it."""

    def __init__(self, model: str, opener: Opener, poll_s: float, registry: Registry = registered_models) -> None:
        """Open the first model.

        Args:
            model: package folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
            opener: opens a package.
            poll_s: time between two looks at an alias, seconds.
            registry: where versions come from.

        Raises:
            MobanetError: the model cannot be fetched or used.
        """
        self.model, self.swaps, self.failures = model, 0, 0
        self.problem: str | None = None  # why the version that the alias names is not served
        self._open, self._poll_s, self._registry = opener, poll_s, registry
        self._current: Served | None = None
        self._stopping, self._exchanging = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        if not model.startswith(SCHEME):
            self._current = opener(Path(model), None)
            return
        match = URI.fullmatch(model)
        if match is None:
            raise ParamsError(f"{model}: not a model; use models:/NAME@ALIAS, models:/NAME/VERSION or a package folder")
        self.look()
        if match["alias"] is not None:
            self._thread = threading.Thread(target=self._follow, name="model-alias", daemon=True)
            self._thread.start()

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """The current model, which stays open until the block ends.

        Raises:
            RequestError: the service is stopping.
        """
        while (served := self._current) is not None:
            if served.use():
                break
        else:
            raise no_model()
        try:
            yield served
        finally:
            served.release()

    @property
    def identity(self) -> Identity | None:
        """The current model; None: the service is stopping."""
        served = self._current
        return None if served is None else served.identity

    def look(self) -> None:
        """Resolve the alias; if it names another version, exchange the model.

        Raises:
            MobanetError: the registry does not answer, or the version cannot be used.
        """
        current = self.identity
        found = self._registry.resolve(self.model, "MODEL")
        if current is not None and (current.name, current.version) == (found.name, found.version):
            return
        with tempfile.TemporaryDirectory(prefix="mobanet-serve-") as folder:
            package, _ = self._registry.fetch_package(found.uri, Path(folder), "MODEL")
            try:
                opened = self._open(package, (found.name, str(found.version)))
            except MobanetError as error:  # the folder is gone when the message is read
                raise type(error)(str(error).replace(str(package), found.uri)) from None
        with self._exchanging:
            if self._stopping.is_set():
                opened.retire()
                return
            before, self._current = self._current, opened
        if before is not None:
            before.retire()
            self.swaps += 1
        log.info("serving version %s of %s", found.version, found.name)

    def close(self) -> None:
        """Stop following, and close the model after its last request."""
        with self._exchanging:
            self._stopping.set()
            served, self._current = self._current, None
        if served is not None:
            served.retire()
        if self._thread is not None:
            self._thread.join(CLOSING_S)

    def _follow(self) -> None:
        pause_s = self._poll_s
        while not self._stopping.wait(pause_s):
            try:
                self.look()
            except Exception as error:  # MLflow, requests and the artifact store raise many types
                self.failures += 1
                problem = str(error) if isinstance(error, MobanetError) else quoted(error)
                if problem != self.problem:
                    log.warning("%s: %s; version %s stays", self.model, problem, getattr(self.identity, "version", "-"))
                self.problem, pause_s = problem, min(2 * pause_s, max(LONGEST_PAUSE_S, self._poll_s))
            else:
                self.problem, pause_s = None, self._poll_s
