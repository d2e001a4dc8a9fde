"""The cluster as a training on several nodes sees it: this pod, and TrainJobs with their pods and logs.

Connection, types and names are those of the SDK of Kubeflow Trainer. Its calls are not used: they cannot write a
variable that refers to a secret, cannot tell "is not there" from "is not allowed", and a log that breaks off cannot be
gone on with. An API that does not answer is waited for, since the training itself does not need it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend
from kubeflow.trainer.constants import constants
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from components.common.errors import ClusterError

log = logging.getLogger(__name__)

TRAINJOBS = (constants.GROUP, constants.VERSION)
PODS = f"{constants.JOBSET_NAME_LABEL}={{}},{constants.JOBSET_RJOB_NAME_LABEL}={constants.NODE}"
"""Which pods belong to the TrainJob of that name."""

TIMEOUT_S = (10, 30)
"""For a connection, and for an answer."""

SILENCE_S = 30.0
"""A log from which nothing has come for so long is opened again; the connection may be dead, or the job over."""

PAUSE_S = 5.0
"""Between two questions."""

PATIENCE_S = 600.0
"""For an API that does not answer, and for a TrainJob that is being deleted with its pods."""

Outcome = Literal["Complete", "Failed"]


class BrokenLog(Exception):
    """The connection has broken, or nothing has come for `SILENCE_S`; there may be more to read."""


@dataclass(frozen=True, slots=True)
class State:
    """Of a TrainJob."""

    created: datetime
    deleting: bool
    outcome: Outcome | None  # None: it goes on
    why: str  # the outcome in Trainer's words

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> State:
        """Read from what the API says."""
        said = {c["type"]: c for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
        outcome: Outcome | None = "Failed" if "Failed" in said else "Complete" if "Complete" in said else None
        why = f"{said[outcome]['reason']}: {said[outcome]['message']}" if outcome else ""
        meta = job["metadata"]
        return cls(datetime.fromisoformat(meta["creationTimestamp"]), "deletionTimestamp" in meta, outcome, why)


class Cluster:
    """The namespace of this pod."""

    def __init__(self, backend: KubernetesBackend) -> None:
        """Speak to the cluster that the SDK is connected to."""
        self.namespace = backend.namespace
        self._core, self._custom, self._api = backend.core_api, backend.custom_api, backend.core_api.api_client

    @classmethod
    def here(cls) -> Cluster:
        """The cluster that this process is in, or else that of the user's kubeconfig.

        Raises:
            ClusterError: there is neither.
        """
        logging.getLogger("kubeflow").setLevel(logging.ERROR)  # it warns that it may not read its own version
        try:
            return cls(KubernetesBackend(KubernetesBackendConfig()))
        except ConfigException:
            raise ClusterError(
                "several nodes train in a cluster only, and this is none; set train_nodes to 1, or start torchrun on "
                "every host yourself (docs/training.md)"
            ) from None

    def own_pod(self) -> dict[str, Any]:
        """This pod, as the API describes it.

        Raises:
            ClusterError: there is none, or reading it is not allowed.
        """
        name = os.environ.get("KFP_POD_NAME") or socket.gethostname()
        pod = self._ask(
            f"read the pod {name}",
            lambda: self._core.read_namespaced_pod(name, self.namespace, _request_timeout=TIMEOUT_S),
            {404: None},
        )
        if pod is None:
            raise ClusterError(
                f"{name} is no pod of the namespace {self.namespace}; several nodes train in copies of the pod that "
                "launches them: submit the pipeline to the cluster"
            )
        described: dict[str, Any] = self._api.sanitize_for_serialization(pod)
        return described

    def create(self, job: Mapping[str, Any]) -> bool:
        """Launch a TrainJob; False: there is one of that name.

        Raises:
            ClusterError: the cluster does not know TrainJobs, does not allow it, or refuses this one.
        """
        answer = self._ask(
            f"create the TrainJob {job['metadata']['name']}",
            lambda: self._custom.create_namespaced_custom_object(
                *TRAINJOBS, self.namespace, constants.TRAINJOB_PLURAL, job, _request_timeout=TIMEOUT_S
            ),
            {404: 404, 409: 409},
        )
        if answer == 404:
            raise ClusterError(
                f"this cluster does not know a TrainJob of {constants.API_VERSION}; install Kubeflow Trainer 2 "
                "(docs/kubeflow.md), or set train_nodes to 1"
            )
        return answer != 409

    def find(self, name: str) -> State | None:
        """How a TrainJob is; None: there is none of that name."""
        job = self._ask(
            f"get the TrainJob {name}",
            lambda: self._custom.get_namespaced_custom_object(
                *TRAINJOBS, self.namespace, constants.TRAINJOB_PLURAL, name, _request_timeout=TIMEOUT_S
            ),
            {404: None},
        )
        return None if job is None else State.of(job)

    def delete(self, name: str) -> None:
        """Delete a TrainJob, if it is there, and wait until its pods are gone.

        Raises:
            ClusterError: that is not allowed, or takes longer than `PATIENCE_S`.
        """
        until = time.monotonic() + PATIENCE_S
        self._ask(
            f"delete the TrainJob {name}",
            lambda: self._custom.delete_namespaced_custom_object(
                *TRAINJOBS,
                self.namespace,
                constants.TRAINJOB_PLURAL,
                name,
                propagation_policy="Foreground",  # it is there as long as a pod of it is
                _request_timeout=TIMEOUT_S,
            ),
            {404: None},
        )
        while self.find(name) is not None:
            if time.monotonic() > until:
                raise ClusterError(
                    f"the TrainJob {name} is still there {PATIENCE_S:.0f} s after it was deleted; "
                    f"`kubectl describe trainjob {name}` says what holds it"
                )
            time.sleep(PAUSE_S)

    def pods(self, name: str) -> list[Any]:
        """The pods of a TrainJob, as the client's `V1Pod`, oldest first."""
        found = self._ask(
            f"list the pods of the TrainJob {name}",
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=PODS.format(name), _request_timeout=TIMEOUT_S
            ),
        )
        return sorted(found.items, key=lambda pod: pod.metadata.creation_timestamp)

    def lines(self, pod: str, **options: Any) -> Iterator[str]:
        """The log of a pod of a TrainJob; none where there is no such pod, or not yet a container.

        Args:
            pod: its name.
            options: of the client's `read_namespaced_pod_log`.

        Raises:
            BrokenLog: it could not be read to its end.
            ClusterError: reading it is not allowed.
        """
        what = f"read the log of the pod {pod}"
        try:
            response = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=constants.NODE,
                _preload_content=False,
                _request_timeout=(TIMEOUT_S[0], SILENCE_S),
                **options,
            )
            with closing(response):
                for line in response:
                    yield line.decode(errors="replace").rstrip("\n")
        except ApiException as error:
            if error.status in (401, 403):
                raise _refused(what, error) from None
            if error.status not in (400, 404):
                raise BrokenLog from error
        except HTTPError as error:
            raise BrokenLog from error

    def _ask(self, what: str, call: Callable[[], Any], expected: Mapping[int, Any] | None = None) -> Any:
        """The answer to a question, or what `expected` has for its status; asks again while the API is away."""
        until, warned = time.monotonic() + PATIENCE_S, False
        while True:
            try:
                return call()
            except ApiException as error:
                if error.status in (expected or {}):
                    return (expected or {})[error.status]
                if error.status != 429 and error.status < 500:
                    raise _refused(what, error) from None
                reason = _message(error)
            except HTTPError as error:
                reason = str(error)
            if time.monotonic() > until:
                raise ClusterError(
                    f"cannot {what}: the API of Kubernetes does not answer ({reason}); a TrainJob goes on without it, "
                    "and the next try follows it"
                )
            if not warned:
                log.warning("the API of Kubernetes does not answer (%s); asking again", reason)
                warned = True
            time.sleep(PAUSE_S)


def _refused(what: str, error: ApiException) -> ClusterError:
    """In one sentence; where a right is missing, the API itself says which, and to whom."""
    said = _message(error)
    if error.status == 401 or (error.status == 403 and "User " in said):
        return ClusterError(
            f"cannot {what}: {said}; give the service account that right (docs/kubeflow.md, Several nodes)"
        )
    return ClusterError(f"cannot {what}: the cluster refuses it ({said})")


def _message(error: ApiException) -> str:
    """What the API says: a Status as JSON, or a line of text."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
