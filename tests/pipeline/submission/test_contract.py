"""The command as a separate process against the published API contract (v2beta1), which Prism checks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import kfp_server_api as kfp
import pytest

from pipeline.submission.api import Server, ServerError
from pipeline.submission.send import send
from tests.pipeline.submission.prism import CONTRACT, guarding
from tests.pipeline.submission.world import Fault, details, serving

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CONTRACT.parent.is_dir(), reason="the contracts are not available"),
]
ROOT = Path(__file__).parents[3]
TOKEN = "s3cret"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with serving() as world, guarding(world.host, tmp_path_factory.mktemp("prism") / "log") as prism:
        yield world, prism


@pytest.fixture
def prism(guarded):
    """Prism; fails the test at its end if Prism found a violation."""
    yield guarded[1]
    assert guarded[1].violations() == []


@pytest.fixture
def world(guarded):
    guarded[0].reset()
    return guarded[0]


def start(prism, *arguments, stderr=subprocess.PIPE):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "KFP_TOKEN": TOKEN}
    command = [sys.executable, "-m", "pipeline", "pipeline", "submit", "--host", prism.host, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)


def finished(process):
    out, err = process.communicate(timeout=120)
    assert TOKEN not in out + (err or "") and "Traceback" not in (err or ""), err
    return process.returncode, out, err


def on_a_terminal(call):
    """Call a function with a pseudo-terminal; returns its result and what the terminal showed."""
    screen, terminal = pty.openpty()
    shown = []

    def read():
        while True:
            try:
                shown.append(os.read(screen, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    process = call(terminal)
    os.close(terminal)
    ended = finished(process)
    reader.join(timeout=30)
    os.close(screen)
    return ended, b"".join(shown).decode()


def test_upload_version_and_run_on_a_server_that_is_busy_twice_with_a_live_table(world, prism):
    world.faults = [
        Fault("POST /pipelines/upload_version", times=2),
        Fault("POST /runs", times=1),
        Fault("POST /runs", times=1, accepted=True),
        Fault("GET /runs/.*", times=2),
    ]
    world.script = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": details(begin="SUCCEEDED", acquire="RUNNING")},
        {"state": "SUCCEEDED", "run_details": details(begin="SUCCEEDED", acquire="SUCCEEDED", train="SKIPPED")},
    ]
    (code, out, _), shown = on_a_terminal(
        lambda terminal: start(prism, "--wait", "--namespace", "team", "--set", "train_steps=120", stderr=terminal)
    )
    assert code == 0, shown
    assert out == f"runs-1 {prism.host}/#/runs/details/runs-1\n"
    assert [len(world.things[kind]) for kind in ("pipelines", "pipeline_versions", "experiments", "runs")] == [1] * 4
    assert world.count("POST /pipelines/upload_version") == 3 and world.count("POST /runs") == 2
    assert world.things["runs"][0]["runtime_config"]["parameters"]["train_steps"] == 120
    assert world.uploads[0].startswith("# PIPELINE DEFINITION")
    assert world.tokens == {f"Bearer {TOKEN}"}
    for word in (
        "is busy (503: come back later); retrying in",
        "acquire",
        "running",
        "succeeded",
        "skipped",
        "finish",
    ):
        assert word in shown


def test_a_run_that_fails_is_told_in_lines(world, prism):
    world.script = [
        {"state": "RUNNING", "run_details": details(begin="SUCCEEDED", train="RUNNING")},
        {"state": "FAILED", "run_details": details(begin="SUCCEEDED", train="FAILED", finish="SUCCEEDED")},
    ]
    code, out, err = finished(start(prism, "--wait"))
    address = f"{prism.host}/#/runs/details/runs-1"
    assert (code, out) == (3, f"runs-1 {address}\n")
    uploading, *lines, last = err.splitlines()
    assert uploading.startswith("uploading version mobanet-")
    assert [line.partition(", ")[0] for line in lines] == [
        *("begin: succeeded", "train: running", "train: failed", "finish: succeeded")
    ]
    assert last == f"error: the task train failed (train ended with 2); see {address}"


def test_a_recurring_run_by_interval(world, prism):
    code, out, _ = finished(start(prism, "--every", "12h", "--run-name", "twice a day"))
    assert (code, out) == (0, f"recurringRuns-1 {prism.host}/#/recurringrun/details/recurringRuns-1\n")
    (made,) = world.things["recurringRuns"]
    assert made["display_name"] == "twice a day" and not world.things["runs"]
    assert made["trigger"] == {"periodic_schedule": {"interval_second": "43200"}}


def test_a_recurring_run_by_cron_line(world, prism, a_plan):
    send(Server(prism.host, {"KFP_TOKEN": TOKEN}), a_plan(cron="0 30 2 * * *"))
    assert world.things["recurringRuns"][0]["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}


def test_without_a_token_nothing_gets_through(world, guarded, a_plan):
    with pytest.raises(ServerError, match=r"denies access \(401: .*\); set KFP_TOKEN to a token"):
        send(Server(guarded[1].host, {}), a_plan())
    assert world.requests == [] and guarded[1].violations() == ["UNAUTHORIZED"]


@pytest.mark.parametrize(
    "broken",
    [
        {"max_concurrency": 1},  # what kfp.Client sends
        {"trigger": kfp.V2beta1Trigger(periodic_schedule=kfp.V2beta1PeriodicSchedule(interval_second=3600))},
        {"no_catchup": "yes"},
        {"mode": "SOMETIMES"},
    ],
)
def test_the_guard_stops_a_request_that_breaks_the_contract(broken, world, guarded):
    _, prism = guarded
    server = Server(prism.host, {"KFP_TOKEN": TOKEN})
    create = kfp.RecurringRunServiceApi(server.api).recurring_run_service_create_recurring_run
    with pytest.raises(ServerError, match=r"rejects the request \(422: "):
        server.once(create, kfp.V2beta1RecurringRun(**broken))
    assert world.requests == [] and prism.violations() == ["UNPROCESSABLE_ENTITY"]


def test_the_guard_stops_an_answer_that_breaks_the_contract(world, guarded):
    _, prism = guarded
    world.faults = [Fault("GET /runs/.*", status=200, body={"state": "PERHAPS"})]
    server = Server(prism.host, {"KFP_TOKEN": TOKEN})
    with pytest.raises(ServerError, match=r"failed \(500: "):
        server.once(kfp.RunServiceApi(server.api).run_service_get_run, "x")
    assert prism.violations() == ["VIOLATIONS"]
