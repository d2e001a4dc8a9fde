"""components/common/kubernetes/nodes.py and client.py, over HTTP: launch, adopt, follow, and every way to end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend

from components.common.errors import ClusterError
from components.common.kubernetes import client as cluster_module
from components.common.kubernetes import nodes
from components.common.kubernetes.client import Cluster
from components.common.kubernetes.nodes import run_on_nodes
from components.common.kubernetes.trainjob import Work, job_name
from tests.kubernetes_api import (
    LAUNCHER,
    NAMESPACE,
    KubernetesApi,
    configuration,
    crd_schema,
    kubeconfig,
    launching_pod,
    serving,
)

ROOT = Path(__file__).parents[4]
NAME = job_name("r-1")
WORK = Work(run="r-1", command=("python", "-m", "x"), environment={}, workspace=Path("/kfp-workspace"), nodes=2, gpus=1)
SCHEMA = crd_schema()


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    """Pauses of some hundredths of a second."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("KFP_POD_NAME", LAUNCHER)
    for module in (cluster_module, nodes):
        monkeypatch.setattr(module, "PAUSE_S", 0.02)
    monkeypatch.setattr(cluster_module, "SILENCE_S", 0.3)
    monkeypatch.setattr(cluster_module, "PATIENCE_S", 1.0)
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits without end"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def api():
    api = KubernetesApi(SCHEMA)
    api.pods[LAUNCHER] = launching_pod("/kfp-workspace")
    return api


@pytest.fixture
def cluster(api):
    with serving(api) as address:
        config = KubernetesBackendConfig(namespace=NAMESPACE, client_configuration=configuration(address))
        yield Cluster(KubernetesBackend(config))


def trains(api, *lines, code=0, pause_s=0.0):
    """What the cluster does with a job: two pods, the first of which logs."""

    def work(job):
        name = job["metadata"]["name"]
        first, second = api.add_pod(name, 0), api.add_pod(name, 1)
        for line in lines:
            api.say(first, line)
            time.sleep(pause_s)
        for pod in (first, second):
            api.end_pod(pod, code)
        api.end(name, "Failed" if code else "Complete", "JobsFailed" if code else "JobsCompleted", "jobset is done")

    return work


def running(api, **meta):
    """A job that an earlier attempt launched, with two pods."""
    api.add_job({"metadata": {"name": NAME}}, **meta)
    return api.add_pod(NAME, 0), api.add_pod(NAME, 1)


def later(work, *args, after_s=0.1):
    threading.Timer(after_s, work, args).start()


def once_asked(api, text, work):
    """Do something as soon as the client has requested a path that contains this text."""

    def wait():
        while not any(text in asked for asked in api.asked):
            time.sleep(0.01)
        work()

    threading.Thread(target=wait, daemon=True).start()


def test_a_job_is_launched_followed_and_done(api, cluster, caplog, capsys):
    api.on_create = trains(api, "step 1", "step 2", "", "step 3", pause_s=0.05)
    run_on_nodes(cluster, WORK)
    (job,) = api.created
    assert job["metadata"]["name"] == NAME and job["spec"]["runtimeRef"]["name"] == "mobanet-torch"
    assert capsys.readouterr().err == "step 1\nstep 2\n\nstep 3\n"
    assert f"TrainJob {NAME}: launched on 2 nodes" in caplog.text and f"TrainJob {NAME}: complete" in caplog.text
    assert not api.deleted, "the last task of the run deletes it"


def test_a_retry_follows_the_job_that_runs(api, cluster, caplog, capsys):
    first, _ = running(api)
    api.say(first, "step 1")

    def go_on():
        api.say(first, "step 2")
        api.end_pod(first, 0)
        api.end(NAME, "Complete")

    once_asked(api, "/log", go_on)
    run_on_nodes(cluster, WORK)
    assert not api.created and "already exists, following it" in caplog.text
    assert capsys.readouterr().err == "step 1\nstep 2\n"


def test_a_retry_is_done_with_a_job_that_is_complete(api, cluster, caplog):
    running(api)
    api.end(NAME, "Complete")
    api.gone(f"{NAME}-node")  # its pods may be gone
    run_on_nodes(cluster, WORK)
    assert not api.created and "already exists, complete" in caplog.text


def test_a_retry_replaces_a_job_that_has_failed_once_its_pods_are_gone(api, cluster, caplog):
    running(api)
    api.end(NAME, "Failed")
    api.on_create = trains(api)
    run_on_nodes(cluster, WORK)
    assert api.deleted == [(NAME, "Foreground")] and len(api.created) == 1
    assert "the earlier attempt failed (JobsCompleted: over); launching it again once it is deleted" in caplog.text
    created = next(i for i, asked in enumerate(api.asked) if asked.startswith("create"))
    assert f"get /apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs/{NAME}" in api.asked[:created]


def test_a_job_that_is_being_deleted_is_waited_for_and_replaced(api, cluster):
    running(api, deletionTimestamp="2026-01-01T00:00:00Z")
    api.on_create = trains(api)
    run_on_nodes(cluster, WORK)
    assert len(api.created) == 1


def test_two_launchers_make_one_job(api, cluster, caplog):
    for pod in running(api):
        api.end_pod(pod, 0)
    api.end(NAME, "Complete")
    find, first = cluster.find, iter([None])  # at first it did not exist, but the other launcher was quicker
    cluster.find = lambda name: next(first, find(name))
    run_on_nodes(cluster, WORK)
    assert not api.created and "already exists" in caplog.text


def test_no_line_is_lost_or_said_twice_when_the_stream_breaks(api, cluster, capsys):
    said = [f"step {number}" for number in range(60)]
    api.breaks = [0, 1, 5, 10]
    api.on_create = trains(api, *said, pause_s=0.005)
    run_on_nodes(cluster, WORK)
    assert capsys.readouterr().err.splitlines() == said


def test_a_stream_that_is_silent_is_opened_again_from_where_it_was(api, cluster, capsys):
    api.on_create = trains(api, "before", "after", pause_s=0.7)  # longer than a connection may be silent
    run_on_nodes(cluster, WORK)
    assert capsys.readouterr().err == "before\nafter\n"
    assert sum("/log" in asked for asked in api.asked) >= 3


def test_the_log_of_a_pod_that_replaces_another_is_followed(api, cluster, capsys):
    first, _ = running(api)
    api.say(first, "lost")
    api.end_pod(first, 137)

    def replace():
        time.sleep(0.1)
        again = api.add_pod(NAME, 0)
        api.pods[again]["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
        api.say(again, "going on from step 20")
        api.end_pod(again, 0)
        api.end(NAME, "Complete")

    once_asked(api, f"{first}/log", replace)
    run_on_nodes(cluster, WORK)
    assert capsys.readouterr().err == "lost\ngoing on from step 20\n"


def test_a_failed_job_is_one_sentence_with_the_last_lines_of_the_pod_that_failed_first(api, cluster, caplog, capsys):
    first, second = running(api)

    def fail():
        api.say(first, "step 1")
        api.say(second, *(f"line {number}" for number in range(100)), "error: data/store is damaged")
        api.end_pod(second, 1)
        time.sleep(1.0)  # times of ends are whole seconds
        api.end_pod(first, 143)
        api.end(NAME, "Failed", "JobsFailed", "one of its jobs failed")

    once_asked(api, "/log", fail)
    with pytest.raises(ClusterError) as raised:
        run_on_nodes(cluster, WORK)
    assert str(raised.value) == (
        f"the TrainJob {NAME} failed (JobsFailed: one of its jobs failed): its pod {second} ended with code "
        "1, see its last lines above; retry the task to resume from the last checkpoint"
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 1" and lines[-1] == "error: data/store is damaged" and len(lines) == 41
    assert f"the last lines of {second}" in caplog.text


def test_the_last_lines_of_the_pod_that_was_followed_are_not_said_twice(api, cluster, capsys):
    api.on_create = trains(api, "step 1", "error: no store", code=1)
    with pytest.raises(ClusterError, match="ended with code 1, see its last lines above"):
        run_on_nodes(cluster, WORK)
    assert capsys.readouterr().err == "step 1\nerror: no store\n"


def test_a_job_that_failed_without_a_pod_says_why(api, cluster):
    running(api)
    api.pods = {LAUNCHER: api.pods[LAUNCHER]}
    api.end(NAME, "Complete")  # so that it is adopted, and fails while it is followed
    find, calls = cluster.find, []

    def failing(name):
        calls.append(name)
        if len(calls) > 1:
            api.end(NAME, "Failed", "DeadlineExceeded", "was active too long")
        return find(name)

    cluster.find = failing
    with pytest.raises(ClusterError, match=r"failed \(DeadlineExceeded: was active too long\); run `kubectl describe"):
        run_on_nodes(cluster, WORK)


def test_a_job_that_takes_too_long_is_deleted(api, cluster, capsys):
    first, _ = running(api, created=datetime.now(UTC) - timedelta(hours=2))
    api.pods[LAUNCHER] = launching_pod("/kfp-workspace", activeDeadlineSeconds=2 * 3600)
    api.say(first, "step 1")
    with pytest.raises(ClusterError, match=r"was not done after 1:55:00, the time limit of its task, and was deleted"):
        run_on_nodes(cluster, WORK)
    assert api.deleted == [(NAME, "Foreground")] and NAME not in api.jobs
    assert capsys.readouterr().err == "step 1\n"


def test_time_is_up_also_while_the_log_flows(api, cluster):
    first, _ = running(api, created=datetime.now(UTC) - timedelta(hours=2) + timedelta(minutes=5, seconds=1))
    api.pods[LAUNCHER] = launching_pod("/kfp-workspace", activeDeadlineSeconds=2 * 3600)

    def speak():
        while NAME in api.jobs:
            api.say(first, "step")
            time.sleep(0.05)

    threading.Thread(target=speak, daemon=True).start()
    with pytest.raises(ClusterError, match="was not done after"):
        run_on_nodes(cluster, WORK)


def test_a_job_that_is_deleted_meanwhile_is_said(api, cluster):
    api.on_create = lambda job: later(api.gone, NAME)
    with pytest.raises(ClusterError, match=f"^the TrainJob {NAME} was deleted before it ended; retry the task"):
        run_on_nodes(cluster, WORK)


def test_what_the_pods_wait_for_is_said_once(api, cluster, caplog):
    unmet = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: Insufficient nvidia.com/gpu"}

    def work(job):
        pod = api.add_pod(NAME, 0, "Pending", conditions=[unmet])

        def start():
            time.sleep(0.1)
            api.end_pod(pod, 0)
            api.end(NAME, "Complete")

        once_asked(api, f"{pod}/log", start)

    api.on_create = work
    run_on_nodes(cluster, WORK)
    said = [r.message for r in caplog.records if "Insufficient" in r.message]
    assert said == [f"TrainJob {NAME}: pods: 1 pending; {NAME}-node-0-0-00001: 0/3 nodes: Insufficient nvidia.com/gpu"]


def test_a_job_outlives_an_api_that_is_away_for_a_while(api, cluster, caplog):
    api.on_create = trains(api, "step 1", pause_s=0.3)
    later(setattr, api, "away", 5)
    run_on_nodes(cluster, WORK)
    assert sum("does not answer" in r.message for r in caplog.records) <= 2 and len(api.created) == 1


def test_an_api_that_stays_away_is_one_sentence(api, cluster):
    api.away = 10**6
    with pytest.raises(ClusterError, match="^cannot read the pod .*: the Kubernetes API does not answer"):
        run_on_nodes(cluster, WORK)


@pytest.mark.parametrize(
    ("verb", "resource", "said"),
    [
        ("get", "pods", 'cannot get resource "pods" in API group ""'),
        ("get", "trainjobs", 'cannot get resource "trainjobs" in API group "trainer.kubeflow.org"'),
        ("create", "trainjobs", 'cannot create resource "trainjobs" in API group "trainer.kubeflow.org"'),
        ("list", "pods", 'cannot list resource "pods"'),
        ("get", "pods/log", 'cannot get resource "pods/log"'),
    ],
)
def test_a_right_that_is_missing_is_named(api, cluster, verb, resource, said):
    api.forbidden = {(verb, resource)}
    api.on_create = trains(api, "step 1")
    with pytest.raises(ClusterError) as raised:
        run_on_nodes(cluster, WORK)
    assert said in str(raised.value) and "account that permission (docs/kubeflow.md" in str(raised.value)
    assert "pipeline-runner" in str(raised.value) and "\n" not in str(raised.value)


def test_a_cluster_without_trainer_is_one_sentence(api, cluster):
    api.without_trainer = True
    with pytest.raises(
        ClusterError, match=r"does not support TrainJob trainer.kubeflow.org/v1alpha1; install Kubeflow"
    ):
        run_on_nodes(cluster, WORK)


def test_a_job_that_the_cluster_refuses_says_why(api, cluster):
    why = 'admission webhook "validator.trainjob" denied the request: ClusterTrainingRuntime "mobanet-torch" not found'
    api.refuse = (403, why)
    with pytest.raises(ClusterError) as raised:
        run_on_nodes(cluster, WORK)
    assert str(raised.value) == f"cannot create the TrainJob {NAME}: the cluster rejects the request ({why})"


def test_a_process_that_is_no_pod_launches_nothing(api, cluster, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "laptop")
    with pytest.raises(ClusterError, match="^laptop is not a pod of the namespace team; multi-node training copies"):
        run_on_nodes(cluster, WORK)
    assert not api.created


def test_a_machine_without_a_cluster_is_one_sentence(monkeypatch, tmp_path):
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="^training on several nodes needs a cluster.*set train_nodes to 1"):
        Cluster.here()


def test_a_job_that_stays_although_it_is_deleted_is_said(api, cluster, monkeypatch):
    running(api)
    monkeypatch.setattr(api, "gone", lambda name: None)
    with pytest.raises(ClusterError, match="still exists 1 s after its deletion"):
        cluster.delete(NAME)


def test_to_delete_a_job_that_is_not_there_is_nothing(api, cluster):
    cluster.delete(NAME)
    api.without_trainer = True
    cluster.delete(NAME)


def test_a_launcher_that_is_moved_leaves_the_job_running_and_its_retry_follows_it(tmp_path):
    """End to end: the task's entry point in a process of its own, SIGTERM, and the same command again."""
    api = KubernetesApi(SCHEMA)
    api.pods[LAUNCHER] = launching_pod(str(tmp_path))
    pods = []
    api.on_create = lambda job: pods.extend([api.add_pod(job["metadata"]["name"], node) for node in (0, 1)])
    code = (
        "import sys; from pathlib import Path; from components.common.kubernetes.launch import launch\n"
        "from components.common.entrypoints.kubeflow import PipelineRun, task, write_run\n"
        "folder = Path(sys.argv[1]); write_run(folder, PipelineRun('r-1', {'kubeflow_run': 'r-1'}))\n"
        "with task(str(folder), 'c0ffee'):\n"
        "    launch('train', {'train': '{\"steps\": 3}'}, folder, {'store': folder / 'store'}, 2, 2)\n"
    )
    with serving(api) as address:
        known = {"KUBECONFIG": str(kubeconfig(address, tmp_path / "kubeconfig")), "KFP_POD_NAME": LAUNCHER}
        command = [sys.executable, "-c", code, str(tmp_path)]

        def start():
            return subprocess.Popen(command, cwd=ROOT, env=os.environ | known, stderr=subprocess.PIPE, text=True)

        process = start()
        while not pods:
            time.sleep(0.02)
            assert process.poll() is None, process.stderr.read()
        api.say(pods[0], "step 1")
        assert next(line for line in process.stderr if "step" in line) == "step 1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 75
        assert "continues, and a retry follows it" in process.stderr.read()
        assert NAME in api.jobs and not api.deleted

        again = start()
        api.say(pods[0], "step 2")
        api.end_pod(pods[0], 0)
        api.end(NAME, "Complete")
        said = again.communicate(timeout=20)[1]
        assert again.returncode == 0, said
        assert "already exists" in said and "step 1\nstep 2\n" in said
    (job,) = api.created
    trainer = job["spec"]["trainer"]
    assert trainer["command"][1:] == [
        *("-m", "torch.distributed.run", "-m", "components.train", "--params", str(tmp_path / "train.yaml")),
        *("--store", str(tmp_path / "store")),
    ]
    assert {"name": "GIT_COMMIT", "value": "c0ffee"} in trainer["env"]
    assert {"name": "MLFLOW_RUN_CONTEXT", "value": '{"kubeflow_run": "r-1"}'} in trainer["env"]
