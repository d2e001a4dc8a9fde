"""pipeline/submission/api.py: what is retried and what the user reads if the server is busy, gone or wrong."""

from __future__ import annotations

import socket

import kfp_server_api
import pytest

from pipeline.submission import api as module
from pipeline.submission.api import Server, ServerError
from pipeline.submission.send import send
from tests.pipeline.submission.world import Fault


def named(world):
    return {
        kind: [one.get("name") or one["display_name"] for one in found] for kind, found in world.things.items() if found
    }


def test_what_is_there_is_used_and_what_is_not_is_made(world, a_plan):
    planned = a_plan(name="first")
    sent = send(Server(world.host), planned)
    assert named(world) == {
        "pipelines": ["mobanet"],
        "pipeline_versions": [planned.version],
        "experiments": ["sample"],
        "runs": ["first"],
    }
    assert world.uploads == [planned.graph]
    assert sent.address == f"{world.host}/#/runs/details/{sent.id}"
    (run,) = world.things["runs"]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipelines-1",
        "pipeline_version_id": "pipeline_versions-1",
    }
    assert run["runtime_config"]["parameters"] == planned.values and run["experiment_id"] == "experiments-1"

    again = send(Server(world.host), a_plan(name="first"))
    assert again.id != sent.id, "a second submission is a second run, even under the same name"
    assert len(world.uploads) == 1 and named(world)["experiments"] == ["sample"]


@pytest.mark.parametrize(
    ("schedule", "trigger"),
    [
        ({"cron": "0 30 2 * * *"}, {"cron_schedule": {"cron": "0 30 2 * * *"}}),
        ({"every": "12h"}, {"periodic_schedule": {"interval_second": "43200"}}),
    ],
)
def test_a_recurring_run_never_overlaps_itself_and_catches_nothing_up(schedule, trigger, world, a_plan):
    sent = send(Server(world.host), a_plan(**schedule))
    (made,) = world.things["recurringRuns"]
    assert (made["trigger"], made["mode"]) == (trigger, "ENABLE")
    assert (made["max_concurrency"], made["no_catchup"]) == ("1", True)
    assert sent.address.endswith(f"/#/recurringrun/details/{sent.id}") and not world.things["runs"]


def test_the_page_is_on_the_ui_where_that_is_another_server(world, a_plan, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://ui.example.org/pipeline/")
    sent = send(Server(world.host), a_plan())
    assert sent.address == f"https://ui.example.org/pipeline/#/runs/details/{sent.id}"


@pytest.mark.parametrize("request_", ["GET /pipelines", "POST /pipelines/upload_version", "POST /runs"])
@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_server_that_is_busy_twice_is_asked_again(request_, status, world, a_plan):
    world.faults = [Fault(request_, times=2, status=status)]
    send(Server(world.host), a_plan())
    assert world.count(request_) == 3 and [len(found) for found in world.things.values()] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("status", [503, 504, 0])
@pytest.mark.parametrize(
    ("request_", "kind", "schedule"),
    [
        ("POST /pipelines", "pipelines", {}),
        ("POST /pipelines/upload_version", "pipeline_versions", {}),
        ("POST /experiments", "experiments", {}),
        ("POST /runs", "runs", {}),
        ("POST /recurringruns", "recurringRuns", {"every": "1d"}),
    ],
)
def test_what_was_made_although_the_answer_was_lost_is_not_made_twice(request_, kind, schedule, status, world, a_plan):
    world.faults = [Fault(request_, status=status, accepted=True)]
    send(Server(world.host), a_plan(**schedule))
    assert world.count(request_) == 1 and len(world.things[kind]) == 1


def test_what_somebody_else_has_just_made_is_used(world, a_plan):
    world.faults = [Fault("POST /experiments", status=409, accepted=True, body={"code": 6, "message": "exists"})]
    send(Server(world.host), a_plan())
    assert world.things["runs"][0]["experiment_id"] == "experiments-1"


def test_the_run_of_another_submission_under_the_same_name_is_not_mistaken_for_ours(world, a_plan):
    first = send(Server(world.host), a_plan(name="nightly"))
    world.faults = [Fault("POST /runs")]
    assert send(Server(world.host), a_plan(name="nightly")).id != first.id


def test_patience_has_an_end(world, a_plan, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    world.faults = [Fault("POST /runs", times=1000)]
    with pytest.raises(ServerError, match=r"is busy \(503: come back later\); try again later$"):
        send(Server(world.host), a_plan())
    assert not world.things["runs"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            Fault("POST /runs", status=400, body={"message": "bad\n  thing"}),
            r"rejects the request \(400: bad thing\); correct",
        ),
        (Fault("POST /runs", status=500, body={"message": "oh"}), r"failed \(500: oh\); see the log of its API server"),
        (Fault("POST /runs", status=500, body="<html>"), r"failed \(500: Internal Server Error\)"),
        (Fault("GET /pipelines", status=200, body="<html>Log in</html>"), "answers with a web page instead of JSON"),
        (
            Fault("GET /pipelines", status=302, body="", headers={"Location": "https://login.example.org"}),
            r"redirects to https://login.example.org \(302\); set --host to the API's URL",
        ),
        (Fault("GET /pipelines", status=401, body={"message": "who?"}), r"\(401: who\?\); set KFP_TOKEN to a token"),
    ],
)
def test_a_refusal_is_one_sentence_and_is_not_repeated(fault, sentence, world, a_plan):
    request, world.faults = fault.request, [fault]
    with pytest.raises(ServerError, match=sentence) as refused:
        send(Server(world.host), a_plan())
    assert world.count(request) == 1 and "\n" not in str(refused.value)


def test_a_token_that_may_not_is_named_and_not_shown(world, a_plan, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "s3cret\n")
    world.faults = [Fault("GET /pipelines", status=403, body={"message": "no"})]
    with pytest.raises(ServerError, match=r"\(403: no\); set KFP_TOKEN to a token with this permission") as refused:
        send(Server(world.host), a_plan())
    assert world.tokens == {"Bearer s3cret"} and "s3cret" not in str(refused.value)


def test_a_token_file_is_read_for_every_request(world, tmp_path):
    file = tmp_path / "token"
    server = Server(world.host, {"KF_PIPELINES_SA_TOKEN_PATH": str(file)})
    for token in ("early", "late"):
        file.write_text(token)
        server.ask(kfp_server_api.ExperimentServiceApi(server.api).experiment_service_list_experiments, filter=ANY)
    assert world.tokens == {"Bearer early", "Bearer late"}


ANY = '{"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "x"}]}'


@pytest.mark.parametrize("token", ["two words", "line\nline", "schlüssel"])
def test_what_no_header_can_carry_is_no_token(token):
    with pytest.raises(ServerError, match="KFP_TOKEN is not a valid token") as refused:
        Server("http://127.0.0.1", {"KFP_TOKEN": token})
    assert token not in str(refused.value)


@pytest.mark.parametrize("host", ["kubeflow.example.org", "https://", "ftp://x", "https://x/#/runs", "https://me:pw@x"])
def test_what_is_no_address_is_refused(host):
    with pytest.raises(ServerError, match="--host is"):
        Server(host)


def test_a_server_that_is_not_there_is_said_at_once(a_plan):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: nobody else answers here
        host = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(
            ServerError, match="does not answer .*Connection refused.*; check the address and the network"
        ):
            send(Server(host), a_plan())
