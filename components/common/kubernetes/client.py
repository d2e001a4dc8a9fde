"""Client for multi-node training: the current pod, and TrainJobs with their pods and logs.

Connection, types and names come from the Kubeflow Trainer SDK. Its calls are not used, for three reasons: they cannot
write a variable that refers to a secret, they do not distinguish "not found" from "forbidden", and they cannot continue
an interrupted log. The client waits for an API that does not answer, because the training does not need the API.
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
"""Label selector of a TrainJob's pods; the blank is the name of the TrainJob."""

TIMEOUT_S = (10, 30)
"""Timeouts for a connection and for an answer, seconds."""

SILENCE_S = 30.0
"""A log stream without output for this long is opened again, because the connection may be dead or the job over."""

PAUSE_S = 5.0
"""Pause between two requests, seconds."""

PATIENCE_S = 600.0
"""How long to wait for an API that does not answer, or for the deletion of a TrainJob and its pods."""

Outcome = Literal["Complete", "Failed"]


class BrokenLog(Exception):
    """The connection broke, or sent nothing for `SILENCE_S`; the log may continue."""


@dataclass(frozen=True, slots=True)
class State:
    """State of a TrainJob."""

    created: datetime
    deleting: bool
    outcome: Outcome | None  # None: not finished
    why: str  # reason and message of the outcome, from Trainer

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> State:
        """Parse a TrainJob object of the API."""
        conditions = {c["type"]: c for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
        outcome: Outcome | None = (
            "Failed" if "Failed" in conditions else "Complete" if "Complete" in conditions else None
        )
        why = f"{conditions[outcome]['reason']}: {conditions[outcome]['message']}" if outcome else ""
        meta = job["metadata"]
        return cls(datetime.fromisoformat(meta["creationTimestamp"]), "deletionTimestamp" in meta, outcome, why)


class Cluster:
    """The namespace of this pod."""

    def __init__(self, backend: KubernetesBackend) -> None:
        """Use the connection of the SDK."""
        self.namespace = backend.namespace
        self._core, self._custom, self._api = backend.core_api, backend.custom_api, backend.core_api.api_client

    @classmethod
    def here(cls) -> Cluster:
        """The cluster that this process runs in, else the one in the user's kubeconfig.

        Raises:
            ClusterError: there is no cluster.
        """
        logging.getLogger("kubeflow").setLevel(logging.ERROR)  # it warns if it may not read Trainer's version
        try:
            return cls(KubernetesBackend(KubernetesBackendConfig()))
        except ConfigException:
            raise ClusterError(
                "training on several nodes needs a cluster, and none was found; set train_nodes to 1, or start "
                "torchrun on every host yourself (docs/training.md)"
            ) from None

    def own_pod(self) -> dict[str, Any]:
        """The current pod as JSON, as the API describes it.

        Raises:
            ClusterError: this process runs in no pod, or must not read it.
        """
        name = os.environ.get("KFP_POD_NAME") or socket.gethostname()
        pod = self._ask(
            f"read the pod {name}",
            lambda: self._core.read_namespaced_pod(name, self.namespace, _request_timeout=TIMEOUT_S),
            {404: None},
        )
        if pod is None:
            raise ClusterError(
                f"{name} is not a pod of the namespace {self.namespace}; multi-node training copies the pod that "
                "launches it, so submit the pipeline to the cluster"
            )
        described: dict[str, Any] = self._api.sanitize_for_serialization(pod)
        return described

    def create(self, job: Mapping[str, Any]) -> bool:
        """Create a TrainJob; False: one of that name exists.

        Raises:
            ClusterError: the cluster does not support TrainJobs, does not permit the request, or rejects this TrainJob.
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
                f"this cluster does not support TrainJob {constants.API_VERSION}; install Kubeflow Trainer 2 "
                "(docs/kubeflow.md), or set train_nodes to 1"
            )
        return answer != 409

    def find(self, name: str) -> State | None:
        """State of a TrainJob; None: it does not exist."""
        job = self._ask(
            f"get the TrainJob {name}",
            lambda: self._custom.get_namespaced_custom_object(
                *TRAINJOBS, self.namespace, constants.TRAINJOB_PLURAL, name, _request_timeout=TIMEOUT_S
            ),
            {404: None},
        )
        return None if job is None else State.of(job)

    def delete(self, name: str) -> None:
        """Delete a TrainJob if it exists, and wait until its pods are gone.

        Raises:
            ClusterError: deleting it is not permitted, or takes longer than `PATIENCE_S`.
        """
        until = time.monotonic() + PATIENCE_S
        self._ask(
            f"delete the TrainJob {name}",
            lambda: self._custom.delete_namespaced_custom_object(
                *TRAINJOBS,
                self.namespace,
                constants.TRAINJOB_PLURAL,
                name,
                propagation_policy="Foreground",  # the TrainJob exists until all of its pods are gone
                _request_timeout=TIMEOUT_S,
            ),
            {404: None},
        )
        while self.find(name) is not None:
            if time.monotonic() > until:
                raise ClusterError(
                    f"the TrainJob {name} still exists {PATIENCE_S:.0f} s after its deletion; "
                    f"run `kubectl describe trainjob {name}` to find out what blocks it"
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
        """Yield the log lines of a TrainJob's pod; nothing if the pod does not exist or has no container yet.

        Args:
            pod: name of the pod.
            options: options of the client's `read_namespaced_pod_log`.

        Raises:
            BrokenLog: the log could not be read to its end.
            ClusterError: reading the log is not permitted.
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
        """The answer to a request; retries for `PATIENCE_S` while the API does not answer.

        Args:
            what: description of the request, for messages.
            call: the request.
            expected: HTTP status -> result to return instead of an error.
        """
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
                    f"cannot {what}: the Kubernetes API does not answer ({reason}); a running TrainJob continues, and "
                    "a retry of this task follows it"
                )
            if not warned:
                log.warning("the Kubernetes API does not answer (%s); retrying", reason)
                warned = True
            time.sleep(PAUSE_S)


def _refused(what: str, error: ApiException) -> ClusterError:
    """The error for a rejected request. If a permission is missing, the API's message names it and the account."""
    message = _message(error)
    if error.status == 401 or (error.status == 403 and "User " in message):
        return ClusterError(
            f"cannot {what}: {message}; grant the service account that permission (docs/kubeflow.md, Several nodes)"
        )
    return ClusterError(f"cannot {what}: the cluster rejects the request ({message})")


def _message(error: ApiException) -> str:
    """The message of an API error: that of a JSON Status, else the HTTP status line."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
