"""Multi-node training, driven from the pod that launches it: launch or adopt a TrainJob, follow it, report its end.

The TrainJob outlives this pod. A retry finds it by its name, which depends only on the pipeline run. The retry follows
a running TrainJob, accepts a complete one, and replaces a failed one, because training resumes from its checkpoints.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from components.common.errors import ClusterError
from components.common.kubernetes.client import PAUSE_S, BrokenLog, Cluster, State
from components.common.kubernetes.trainjob import Work, trainjob

log = logging.getLogger(__name__)

NODE_0 = ("batch.kubernetes.io/job-completion-index", "0")
"""Label of the pod whose first process is rank 0, the rank that logs."""

HEAD_START = timedelta(minutes=5)
"""A job is stopped this long before the time limit of the launching pod, so that the pod can still report it."""

YEAR_S = 365 * 24 * 3600

OVERLAP_S = 60
"""A broken log is read again from this many seconds before the break, as clocks differ; known lines are skipped."""

LAST_LINES = 40
"""Lines of a failed pod's log that are printed."""

LOG_TRIES = 5
"""Attempts to read the log of a finished job to its end."""


def run_on_nodes(cluster: Cluster, work: Work) -> None:
    """Train on several nodes, in copies of this pod. The log of the first node is printed to stderr.

    Raises:
        ClusterError: the cluster rejects the TrainJob, or the training failed, took too long or was deleted.
        SystemExit: code 75, after SIGTERM; the TrainJob continues, and a retry follows it.
    """
    pod = cluster.own_pod()
    job = trainjob(pod, work)
    name = job["metadata"]["name"]
    with _leaving(name):
        _start(cluster, job)
        _follow(cluster, name, _patience(pod["spec"]))


def _patience(spec: Mapping[str, Any]) -> timedelta:
    """Maximum age of a job: the time limit of the launching pod (default: a year) minus a margin."""
    limit = timedelta(seconds=spec.get("activeDeadlineSeconds", YEAR_S))
    return limit - min(HEAD_START, limit / 10)


def _start(cluster: Cluster, job: Mapping[str, Any]) -> None:
    """Launch the job, or adopt one that runs or is complete."""
    name = job["metadata"]["name"]
    while True:
        found = cluster.find(name)
        if found is None:
            if cluster.create(job):
                log.info("TrainJob %s: launched on %d nodes", name, job["spec"]["trainer"]["numNodes"])
                return
        elif found.outcome == "Failed" or found.deleting:
            over = f"failed ({found.why})" if found.outcome else "is being deleted"
            log.info("TrainJob %s: the earlier attempt %s; launching it again once it is deleted", name, over)
            cluster.delete(name)
        else:
            log.info("TrainJob %s: already exists, %s", name, "complete" if found.outcome else "following it")
            return


def _follow(cluster: Cluster, name: str, patience: timedelta) -> None:
    """Wait for the end of a job, and print the log of its first node."""
    followed, shown = _Log(cluster), ""
    while True:
        state = cluster.find(name)
        if state is None or (state.deleting and not state.outcome):
            raise ClusterError(
                f"the TrainJob {name} was deleted before it ended; retry the task to resume from the last checkpoint"
            )
        pods = cluster.pods(name)
        if (now := _summary(pods)) != shown:
            shown = now
            log.info("TrainJob %s: %s", name, shown)
        left = patience - (datetime.now(UTC) - state.created)
        first = [pod for pod in pods if (pod.metadata.labels or {}).get(NODE_0[0]) == NODE_0[1]]
        for _ in range(LOG_TRIES if state.outcome else 1):
            if not first or followed.read(first[-1].metadata.name, left):
                break
        if state.outcome == "Complete":
            log.info("TrainJob %s: complete", name)
            return
        if state.outcome == "Failed":
            raise _failure(cluster, name, state, pods, followed.pod)
        if left < timedelta(0):
            cluster.delete(name)
            raise ClusterError(
                f"the TrainJob {name} was not done after {patience}, the time limit of its task, and was deleted; "
                "retry the task to resume from the last checkpoint"
            )
        time.sleep(PAUSE_S)


def _failure(cluster: Cluster, name: str, state: State, pods: list[Any], followed: str) -> ClusterError:
    """The error for a failed job; prints the last lines of the pod that failed first, if they were not followed."""
    ends = [
        (end.finished_at, pod.metadata.name, end.exit_code)
        for pod in pods
        for status in pod.status.container_statuses or ()
        if (end := status.state.terminated) and end.exit_code
    ]
    if not ends:
        return ClusterError(f"the TrainJob {name} failed ({state.why}); run `kubectl describe trainjob {name}`")
    _, pod, code = min(ends)
    if pod != followed:
        log.error("TrainJob %s: the last lines of %s:", name, pod)
        with suppress(BrokenLog):
            for line in cluster.lines(pod, tail_lines=LAST_LINES):
                print(line, file=sys.stderr)
    return ClusterError(
        f"the TrainJob {name} failed ({state.why}): its pod {pod} ended with code {code}, see its last lines above; "
        "retry the task to resume from the last checkpoint"
    )


def _summary(pods: list[Any]) -> str:
    """Number of pods per phase, and what pending pods wait for."""
    phases = [pod.status.phase for pod in pods]
    counts = ", ".join(f"{phases.count(phase)} {phase.lower()}" for phase in dict.fromkeys(phases))
    waits = [f"{pod.metadata.name}: {reason}" for pod in pods if (reason := _wait(pod.status))]
    return "; ".join([f"pods: {counts or 'none yet'}", *waits])


def _wait(status: Any) -> str:
    """Why a pod is pending: no node has room for it, or its container does not start. Empty if it is not pending."""
    unmet = [c.message for c in status.conditions or () if c.type == "PodScheduled" and c.status == "False"]
    waiting = [one.state.waiting.reason for one in status.container_statuses or () if one.state.waiting]
    return next(iter(unmet + waiting), None) or "" if status.phase == "Pending" else ""


class _Log:
    """Prints the log of a pod to stderr as it grows, each line once, even if connections break."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.pod, self._last = cluster, "", ""

    def read(self, pod: str, left: timedelta) -> bool:
        """Print new lines of a pod's log.

        Args:
            pod: name of the pod.
            left: time after which to stop reading.

        Returns:
            Whether the log was read to its end; False: the log broke off or was silent, or the time is up.
        """
        if pod != self.pod:
            self.pod, self._last = pod, ""
        until = time.monotonic() + left.total_seconds()
        options: dict[str, Any] = {"follow": True, "timestamps": True}
        if self._last:
            age = datetime.now(UTC) - datetime.fromisoformat(self._last)
            options["since_seconds"] = max(0, int(age.total_seconds())) + OVERLAP_S
        with suppress(BrokenLog):
            for line in self._cluster.lines(pod, **options):
                stamp, _, text = line.partition(" ")  # 2026-01-31T12:00:00.123456789Z: fixed width, so strings compare
                if stamp > self._last and _is_time(stamp):
                    self._last = stamp
                    print(text, file=sys.stderr, flush=True)
                if time.monotonic() > until:
                    return False
            return True
        return False


def _is_time(stamp: str) -> bool:
    """Whether a line starts with a time; messages of the node itself do not, and are no part of the log."""
    try:
        return datetime.fromisoformat(stamp).tzinfo is not None
    except ValueError:
        return False


@contextmanager
def _leaving(name: str) -> Iterator[None]:
    """Exit on SIGTERM and leave the job running: only this pod is moved or stopped, the training is not."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.EX_TEMPFAIL))
    try:
        yield
    except SystemExit:
        log.info("asked to stop: the TrainJob %s continues, and a retry follows it", name)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
