"""pipeline/submission/follow.py: rows of the table and log lines while a run continues, and the message at its end."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime

import kfp_server_api
import pytest
from rich.console import Console

from pipeline.submission import follow as module
from pipeline.submission.api import Server, ServerError
from pipeline.submission.follow import rows, table, watch
from pipeline.submission.send import send
from tests.pipeline.submission.world import Fault, details

TASKS = ("begin", "acquire", "train", "finish")
NOW = datetime(2026, 11, 25, 11, 0, 30, tzinfo=UTC)


def task(name, state, start=None, end=None):
    start_time, end_time = (clock and datetime(2026, 11, 25, *clock, tzinfo=UTC) for clock in (start, end))
    return kfp_server_api.V2beta1PipelineTaskDetail(
        display_name=name, state=state, start_time=start_time, end_time=end_time
    )


@pytest.fixture
def started(world, a_plan, monkeypatch):
    """A server with a run."""
    monkeypatch.setattr(module, "FIRST_POLL_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_POLL_S", 0.01)
    server = Server(world.host)
    return server, send(server, a_plan()).id


def test_rows_are_the_tasks_of_the_graph_in_its_order_whatever_else_there_is():
    known = [
        task("train", "RUNNING", (10, 0, 0)),
        task("run", "RUNNING"),
        task("begin", "SUCCEEDED", (9, 0, 0), (9, 1, 5)),
    ]
    assert [(row.task, row.state, row.time) for row in rows(TASKS, known, NOW)] == [
        ("begin", "succeeded", "0:01:05"),
        ("acquire", "", ""),
        ("train", "running", "1:00:30"),
        ("finish", "", ""),
    ]


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["SUCCEEDED", "RUNNING", "PENDING"], "running, 1 of 3"),
        (["SUCCEEDED", "FAILED", "RUNNING"], "failed, 1 of 3"),
        (["SUCCEEDED", "SKIPPED"], "succeeded, 2 of 2"),
        (["NEW_IN_A_LATER_KUBEFLOW", "RUNNING"], "running, 0 of 2"),
        (["NEW_IN_A_LATER_KUBEFLOW"], "new_in_a_later_kubeflow"),
        ([None], ""),
    ],
)
def test_a_task_that_runs_once_per_shard_is_one_row(states, shown):
    (row,) = rows(["check"], [task("check", state) for state in states], NOW)
    assert row.state == shown


def test_the_table_shows_every_task_its_state_and_its_time():
    console = Console(file=io.StringIO(), width=80)
    console.print(table(rows(TASKS, [task("train", "FAILED", (10, 0, 0), (10, 0, 7))], NOW)))
    drawn = console.file.getvalue()
    assert "failed" in drawn and "0:00:07" in drawn and all(name in drawn for name in TASKS)


def test_a_run_that_succeeds_is_told_in_lines_once_per_change(started, world, caplog):
    world.script = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": details(begin="RUNNING")},
        {"state": "RUNNING", "run_details": details(begin="RUNNING")},
        {"state": "RUNNING", "run_details": details(begin="SUCCEEDED", train="RUNNING")},
        {"state": "SUCCEEDED", "run_details": details(begin="SUCCEEDED", train="SUCCEEDED")},
    ]
    with caplog.at_level(logging.INFO, module.__name__):
        assert watch(*started, TASKS) is None
    told = [record.getMessage().rpartition(",")[0] for record in caplog.records if record.name == module.__name__]
    assert told == ["begin: running", "begin: succeeded", "train: running", "train: succeeded"]


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (
            {"state": "FAILED", "run_details": details(begin="SUCCEEDED", train="FAILED", run="FAILED", root="FAILED")},
            "the task train failed (train ended with 2)",
        ),
        (
            {"state": "FAILED", "run_details": details(acquire="FAILED", finish="FAILED")},
            "the tasks acquire and finish failed (acquire ended with 2)",
        ),
        (
            {"state": "FAILED", "run_details": details(**{"train-driver": "FAILED"})},
            "the task train failed (train-driver ended with 2)",
        ),
        ({"state": "FAILED", "error": {"message": "quota"}}, "the run ended as failed (quota)"),
        ({"state": "CANCELED", "run_details": details(train="FAILED")}, "the run ended as canceled"),
    ],
)
def test_a_run_that_does_not_succeed_names_the_task(end, sentence, started, world):
    world.script = [{"state": "RUNNING"}, end]
    assert watch(*started, TASKS) == sentence


def test_a_server_that_is_away_while_a_run_goes_on_is_waited_for(started, world):
    world.script = [{"state": "RUNNING"}, {"state": "SUCCEEDED"}]
    world.faults = [Fault("GET /runs/.*", times=5), Fault("GET /runs/.*", times=3, status=0)]
    assert watch(*started, TASKS) is None


def test_a_token_that_runs_out_while_waiting_is_said_at_once(started, world):
    world.script = [{"state": "RUNNING"}]
    world.faults = [Fault("GET /runs/.*", status=401, body={"message": "expired"})]
    with pytest.raises(ServerError, match=r"\(401: expired\)"):
        watch(*started, TASKS)
