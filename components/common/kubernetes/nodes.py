"""A training on several nodes, watched from the pod that launches it: launch or adopt, follow, say how it ended.

The TrainJob outlives this pod. A retry finds it by its name, which is a function of the run of the pipeline: it follows
one that runs, is done with one that is complete, and replaces one that has failed, since training goes on from its
checkpoints.
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
"""Label of the pod whose first process is rank 0, the one that has something to say."""

HEAD_START = timedelta(minutes=5)
"""A job is given up so long before the time limit of the pod that launched it, which must still say so."""

YEAR_S = 365 * 24 * 3600

OVERLAP_S = 60
"""A log is read again from so long before it broke off, since clocks differ; lines that were read are passed over."""

LAST_LINES = 40

LOG_TRIES = 5
"""To read the log of a job that is over to its end."""


def run_on_nodes(cluster: Cluster, work: Work) -> None:
    """Train on several nodes, in copies of this pod; their log goes to stderr.

    Raises:
        ClusterError: the cluster lacks or refuses something, the training failed or took too long, or was deleted.
        SystemExit: with 75, after SIGTERM: the TrainJob goes on, and a retry follows it.
    """
    pod = cluster.own_pod()
    job = trainjob(pod, work)
    name = job["metadata"]["name"]
    with _leaving(name):
        _start(cluster, job)
        _follow(cluster, name, _patience(pod["spec"]))


def _patience(spec: Mapping[str, Any]) -> timedelta:
    """How old a job may become: the time limit of the launching pod, or else a year."""
    limit = timedelta(seconds=spec.get("activeDeadlineSeconds", YEAR_S))
    return limit - min(HEAD_START, limit / 10)


def _start(cluster: Cluster, job: Mapping[str, Any]) -> None:
    """Launch the job, unless there is one to adopt."""
    name = job["metadata"]["name"]
    while True:
        found = cluster.find(name)
        if found is None:
            if cluster.create(job):
                log.info("TrainJob %s: launched on %d nodes", name, job["spec"]["trainer"]["numNodes"])
                return
        elif found.outcome == "Failed" or found.deleting:
            over = f"has failed ({found.why})" if found.outcome else "is being deleted"
            log.info("TrainJob %s: that of an earlier try %s; it is launched anew when that is gone", name, over)
            cluster.delete(name)
        else:
            log.info("TrainJob %s: there already, %s", name, "complete" if found.outcome else "following it")
            return


def _follow(cluster: Cluster, name: str, patience: timedelta) -> None:
    """Wait for the end of a job, and pass on the log of its first node."""
    followed, said = _Log(cluster), ""
    while True:
        state = cluster.find(name)
        if state is None or (state.deleting and not state.outcome):
            raise ClusterError(
                f"the TrainJob {name} was deleted before it had ended; a retry goes on from the last checkpoint"
            )
        pods = cluster.pods(name)
        if (now := _summary(pods)) != said:
            said = now
            log.info("TrainJob %s: %s", name, said)
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
                f"the TrainJob {name} was not done after {patience}, the time limit of its task, and is deleted; a "
                "retry goes on from the last checkpoint"
            )
        time.sleep(PAUSE_S)


def _failure(cluster: Cluster, name: str, state: State, pods: list[Any], followed: str) -> ClusterError:
    """What a failed job came to; the last lines of the pod that failed first are logged, unless they were already."""
    ends = [
        (end.finished_at, pod.metadata.name, end.exit_code)
        for pod in pods
        for status in pod.status.container_statuses or ()
        if (end := status.state.terminated) and end.exit_code
    ]
    if not ends:
        return ClusterError(f"the TrainJob {name} failed ({state.why}); `kubectl describe trainjob {name}` says more")
    _, pod, code = min(ends)
    if pod != followed:
        log.error("TrainJob %s: the last lines of %s:", name, pod)
        with suppress(BrokenLog):
            for line in cluster.lines(pod, tail_lines=LAST_LINES):
                print(line, file=sys.stderr)
    return ClusterError(
        f"the TrainJob {name} failed ({state.why}): its pod {pod} ended with {code}, its last lines are above; a "
        "retry goes on from the last checkpoint"
    )


def _summary(pods: list[Any]) -> str:
    """How many pods are in which phase, and what those that do not run yet wait for."""
    phases = [pod.status.phase for pod in pods]
    counts = ", ".join(f"{phases.count(phase)} {phase.lower()}" for phase in dict.fromkeys(phases))
    waits = [f"{pod.metadata.name}: {reason}" for pod in pods if (reason := _wait(pod.status))]
    return "; ".join([f"pods: {counts or 'none yet'}", *waits])


def _wait(status: Any) -> str:
    """Why a pod is pending: no node has room for it, or its container does not start."""
    unmet = [c.message for c in status.conditions or () if c.type == "PodScheduled" and c.status == "False"]
    waiting = [one.state.waiting.reason for one in status.container_statuses or () if one.state.waiting]
    return next(iter(unmet + waiting), None) or "" if status.phase == "Pending" else ""


class _Log:
    """The log of a pod, passed on to stderr as it grows, every line once, over connections that break."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.pod, self._last = cluster, "", ""

    def read(self, pod: str, left: timedelta) -> bool:
        """Pass on what is new; False: there may be more, since the log broke off or was silent, or no time is left."""
        if pod != self.pod:
            self.pod, self._last = pod, ""
        until = time.monotonic() + left.total_seconds()
        options: dict[str, Any] = {"follow": True, "timestamps": True}
        if self._last:
            age = datetime.now(UTC) - datetime.fromisoformat(self._last)
            options["since_seconds"] = max(0, int(age.total_seconds())) + OVERLAP_S
        with suppress(BrokenLog):
            for line in self._cluster.lines(pod, **options):
                stamp, _, text = line.partition(" ")  # 2026-01-31T12:00:00.123456789Z: of fixed width, so texts compare
                if stamp > self._last and _is_time(stamp):
                    self._last = stamp
                    print(text, file=sys.stderr, flush=True)
                if time.monotonic() > until:
                    return False
            return True
        return False


def _is_time(stamp: str) -> bool:
    """Whether a line is of the log; a node's own complaints have no time before them."""
    try:
        return datetime.fromisoformat(stamp).tzinfo is not None
    except ValueError:
        return False


@contextmanager
def _leaving(name: str) -> Iterator[None]:
    """End on SIGTERM without a word to the job: this pod is moved or stopped, and the training need not be."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.EX_TEMPFAIL))
    try:
        yield
    except SystemExit:
        log.info("asked to stop: the TrainJob %s goes on, and a retry follows it", name)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
