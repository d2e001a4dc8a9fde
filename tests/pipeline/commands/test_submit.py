"""`mobanet pipeline submit`: output and exit codes; the server is a stub in this process."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pipeline.cli import main
from pipeline.submission import follow
from tests.pipeline.submission.world import Fault, details, serving


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(follow, "FIRST_POLL_S", 0.01)
    monkeypatch.setenv("KFP_TOKEN", "s3cret")
    monkeypatch.delenv("KF_PIPELINES_UI_ENDPOINT", raising=False)
    with serving() as made:
        yield made


@pytest.fixture
def submit(world, monkeypatch, capsys):
    """Function that calls the command; returns exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["mobanet", "pipeline", "submit", "--host", world.host, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and "s3cret" not in captured.out + captured.err
        return stop.value.code or 0, captured.out, captured.err

    return call


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(submit, world):
    code, out, _ = submit(
        "--dry-run", "--set", "train_steps=120", "--every", "12h", "--namespace", "team", "--run-name", "x"
    )
    assert code == 0 and world.requests == []
    assert "recurring run x, every 43200 s" in out and "experiment mobanet in namespace team" in out
    assert "train_steps = 120" in out.splitlines()


def test_id_and_address_alone_are_on_stdout(submit, world):
    assert submit() == (0, f"runs-1 {world.host}/#/runs/details/runs-1\n", "")


def test_the_namespace_is_that_of_pipeline_and_experiment(submit, world):
    submit("--namespace", "team")
    assert {one["namespace"] for kind in ("pipelines", "experiments") for one in world.things[kind]} == {"team"}


def test_the_host_may_come_from_the_environment(world, monkeypatch, capsys):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", world.host)
    monkeypatch.setattr("sys.argv", ["mobanet", "pipeline", "submit", "--dry-run"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.startswith(f"to {world.host}, image mobanet:latest\n")


def test_a_run_that_was_waited_for_and_failed_exits_with_3_and_names_task_and_address(submit, world):
    world.script = [{"state": "FAILED", "run_details": details(begin="SUCCEEDED", train="FAILED")}]
    code, out, err = submit("--wait")
    address = f"{world.host}/#/runs/details/runs-1"
    assert (code, out) == (3, f"runs-1 {address}\n")
    assert err.splitlines()[-1] == f"error: the task train failed (train ended with 2); see {address}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "train_steps=few"], "error: --set train_steps is 'few'"),
        (["--wait", "--every", "1h"], "error: --wait cannot be combined with"),
        (["--cron", "0 0 2 * * *", "--every", "1h"], "error: --cron and --every are both set"),
        (["--params", "nowhere.yaml"], "error: nowhere.yaml: no such file"),
    ],
)
def test_bad_input_exits_with_2_and_sends_nothing(arguments, sentence, submit, world):
    code, out, err = submit(*arguments)
    assert (code, out) == (2, "") and err.startswith(sentence) and world.requests == []


def test_a_refusal_while_waiting_says_that_the_run_goes_on(submit, world):
    world.faults = [Fault("GET /runs/.*", status=401, body={"message": "expired"})]
    code, _, err = submit("--wait")
    assert code == 2 and err.endswith(f"; the run continues: {world.host}/#/runs/details/runs-1\n")


def test_an_interrupt_while_waiting_leaves_the_run_going_and_says_so(submit, world):
    world.script = [{"state": "RUNNING"}]

    def interrupt():
        while world.count("GET /runs/.*") < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, out, err = submit("--wait")
    assert code == 130 and out.startswith("runs-1 ")
    assert err.splitlines()[-1] == f"no longer waiting; the run continues: {world.host}/#/runs/details/runs-1"
    assert world.count("POST /runs/.*") == 0, "nothing is terminated"
