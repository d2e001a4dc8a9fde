"""components/register/history/events.py: which events take effect, and what follows from them."""

from __future__ import annotations

import json
from dataclasses import replace

from components.register.history.events import CHALLENGER, CHAMPION, LIMIT, PREVIOUS, Event, History, Kind


def event(kind: Kind, version: str | None, expects=None, sets=None, **more) -> Event:
    identity = more.pop("id", f"{kind} {version} {expects} {sets}")
    return Event(identity, "2026-11-27T00:00:00+00:00", kind, version, expects or {}, sets or {}, **more)


def promotion(version: str, former: str | None, **more) -> Event:
    return event("promote", version, {CHAMPION: former}, {CHAMPION: version, PREVIOUS: former}, **more)


def history(*events: Event) -> History:
    return History.of(replace(one, number=number) for number, one in enumerate(events, start=1))


def test_of_two_promotions_judged_against_one_champion_the_first_takes_effect():
    found = history(promotion("1", None), promotion("2", "1"), promotion("3", "1"))
    assert [one.lost for one in found.events] == [False, False, True]
    assert found.state.aliases == {CHAMPION: "2", PREVIOUS: "1"}
    assert found.state.line == ("1", "2")


def test_an_event_that_was_written_twice_takes_effect_once():
    first, other = event("register", "1", sets={CHALLENGER: "1"}), event("register", "2", sets={CHALLENGER: "2"})
    found = history(first, other, first)
    assert [one.lost for one in found.events] == [False, False, True]
    assert found.state.aliases == {CHALLENGER: "2"}
    assert found.event(first.id) == found.events[0]


def test_a_rejected_version_becomes_champion_by_force_only():
    rejected = event("reject", "2")
    found = history(promotion("1", None), rejected, promotion("2", "1"), promotion("2", "1", id="f", forced=True))
    assert [one.lost for one in found.events] == [False, False, True, False]
    assert found.state.aliases[CHAMPION] == "2"
    assert (found.state.rejected, found.state.pardoned) == (frozenset(), {"2"})


def test_a_version_that_became_champion_in_the_meantime_is_not_rejected():
    found = history(promotion("1", None), event("reject", "1"))
    assert found.events[1].lost and found.state.rejected == frozenset()


def test_a_rollback_returns_to_the_earlier_line_of_champions():
    back = event("rollback", "2", {CHAMPION: "3", PREVIOUS: "2"}, {CHAMPION: "2", PREVIOUS: "1"})
    found = history(promotion("1", None), promotion("2", "1"), promotion("3", "2"), back)
    assert found.state.line == ("1", "2")
    assert found.state.aliases == {CHAMPION: "2", PREVIOUS: "1"}


def test_a_rejected_version_leaves_the_line_of_champions():
    found = history(promotion("1", None), promotion("2", "1"), event("reject", "1", {PREVIOUS: "1"}, {PREVIOUS: None}))
    assert found.state.line == ("2",) and found.state.aliases == {CHAMPION: "2"}


def test_a_version_scored_again_takes_the_place_of_the_earlier_one():
    again = event("rescore", "3", {CHAMPION: "2"}, {CHAMPION: "3"}, replaces="2")
    found = history(promotion("1", None), promotion("2", "1"), again)
    assert found.state.line == ("1", "3")
    assert found.state.aliases == {CHAMPION: "3", PREVIOUS: "1"}


def test_a_rejected_version_scored_again_stays_rejected():
    found = history(promotion("1", None), event("reject", "2"), event("rescore", "3", replaces="2"))
    assert found.state.rejected == {"2", "3"}
    assert found.has_rescored("2", "3") and not found.has_rescored("1", "3")
    pardoned = promotion("2", "1", forced=True)
    found = history(promotion("1", None), event("reject", "2"), pardoned, event("rescore", "3", replaces="2"))
    assert (found.state.rejected, found.state.pardoned) == (frozenset(), {"2", "3"})


def test_a_version_scored_again_is_in_the_line_once():
    again = event("rescore", "2", {PREVIOUS: "1"}, {PREVIOUS: None}, replaces="1")
    assert history(promotion("1", None), promotion("2", "1"), again).state.line == ("2",)


def test_an_event_that_is_not_marked_as_applied_is_pending_unless_it_is_lost():
    first, second = promotion("1", None, applied=True), promotion("2", "1")
    assert history(first, second, promotion("3", "1")).pending == (replace(second, number=2),)


def test_values_from_before_a_pending_event_are_expected_in_mlflow():
    found = history(promotion("1", None), promotion("2", "1"), promotion("3", "2"))
    assert found.expected(CHAMPION, None) == {"3"}
    assert found.expected(CHAMPION, 3) == {"2", "3"}
    assert found.expected(CHAMPION, 1) == {None, "1", "2", "3"}


def test_a_deleted_event_is_missing():
    first, _, third = (replace(promotion("1", None), number=number) for number in (1, 2, 3))
    assert History.of([first, third]).missing == (2,)


def test_json_holds_the_event():
    written = promotion("2", "1", who="ada", why="a test", gates=({"name": "E(p)", "passed": True},), digest="d" * 64)
    assert Event.from_json(written.to_json(), 7, True) == replace(written, number=7, applied=True)


def test_a_tag_that_is_not_an_event_has_no_effect():
    newer = json.loads(promotion("1", None).to_json()) | {"format": 99}
    for text in (None, "", "{}", "[]", "null", json.dumps(newer)):
        read = Event.from_json(text, 1, False)
        assert (read.kind, read.lost) == ("unreadable", True)
        assert History.of([read]).state.aliases == {}


def test_gates_that_are_too_long_are_shortened_and_keep_their_figures():
    gates = tuple(
        {
            "name": f"IoU, class {i}",
            "candidate": "81.25",
            "champion": "x" * 3000,
            "limit": "81.00 or more",
            "passed": True,
        }
        for i in range(200)
    )
    written = promotion("1", None, why="y" * 100_000, gates=gates)
    text = written.to_json()
    assert len(text) <= LIMIT
    read = Event.from_json(text, 1, False)
    assert [(gate["name"], gate["candidate"], gate["passed"]) for gate in read.gates] == [
        (f"IoU, class {i}", "81.25", True) for i in range(200)
    ]
