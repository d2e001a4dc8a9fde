"""components/register/history/ledger.py: reading the log page by page, and what it tells readers."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from components.register.history.events import CHAMPION, PREVIOUS, Event
from components.register.history.ledger import Ledger, sentence_of, who


class Pages:
    """A client that answers with two versions per page, newest page last."""

    def __init__(self, tags: list[dict[str, str]]) -> None:
        self.versions = [SimpleNamespace(version=str(i), tags=found) for i, found in enumerate(tags, start=1)]

    def search_model_versions(self, _: str, order_by: list[str], page_token: str | None):
        assert order_by == ["version_number ASC"]
        start = int(page_token or 0)
        page = Page(self.versions[start : start + 2])
        page.token = str(start + 2) if start + 2 < len(self.versions) else None
        return page


class Page(list):
    """One page of an answer."""

    token: str | None


def promotion(number: int) -> Event:
    former = str(number - 1) if number > 1 else None
    expects, sets = {CHAMPION: former}, {CHAMPION: str(number), PREVIOUS: former}
    return Event(f"id-{number}", "2026-11-27T00:00:00+00:00", "promote", str(number), expects, sets)


def test_all_pages_of_the_log_are_read_in_order():
    tags = [{"event": promotion(number).to_json(), "applied": str(number < 5).lower()} for number in range(1, 6)]
    history = Ledger(Pages(tags), "city").read()
    assert [event.number for event in history.events] == [1, 2, 3, 4, 5]
    assert history.state.line == ("1", "2", "3", "4", "5")
    assert [event.number for event in history.pending] == [5]


def test_a_version_that_someone_adds_to_the_history_in_mlflow_changes_nothing():
    tags = [{"event": promotion(1).to_json(), "applied": "true"}, {}, {"event": promotion(2).to_json()}]
    history = Ledger(Pages(tags), "city").read()
    assert [(event.kind, event.lost) for event in history.events] == [
        ("promote", False),
        ("unreadable", True),
        ("promote", False),
    ]
    assert history.state.aliases == {CHAMPION: "2", PREVIOUS: "1"}


def test_a_sentence_names_who_did_what_to_which_version_and_why():
    event = Event(
        *("id", "2026-11-27T09:00:00+00:00", "promote", "3", {CHAMPION: "2"}, {CHAMPION: "3", PREVIOUS: "2"}),
        who="ada",
        why="an incident",
        forced=True,
    )
    assert sentence_of(event, "city") == (
        "2026-11-27T09:00:00+00:00: ada promoted version 3 of city by force "
        "(champion: 2 -> 3; previous-champion: 2), because: an incident"
    )


def test_an_undo_names_the_version_that_it_removes():
    event = Event(
        "id", "2026-11-27T09:00:00+00:00", "undo", "1", {CHAMPION: "1"}, {CHAMPION: "1"}, found={CHAMPION: "3"}
    )
    assert "undid a change made by hand of version 1 of city (champion: 3 -> 1)" in sentence_of(event, "city")


def test_a_container_without_a_user_name_is_named_by_its_user_id(monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_RUN_CONTEXT", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    assert who() == f"user {os.getuid()}"


@pytest.mark.parametrize("name", ["city", "city.v2", "a-b_c"])
def test_the_history_of_a_model_has_its_name_and_an_ending(name):
    assert Ledger(Pages([]), name).name == f"{name}.history"
