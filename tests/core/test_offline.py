"""Offline is not limited: where nothing answers, nobody rests, and who answers first ends these rests everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from story import NOON, Story, provider

from rlmd.core.model import Use, Wait

MINUTE, HOUR = 60.0, 3600.0
ONE = (provider("a"),)
TWO = (provider("a", 1), provider("b", 2))
REFUSED = {"message": "Error: ConnectionRefused Unable to connect. Is the computer able to access the url?"}
UNKNOWN = {"message": "Error: ENOTFOUND getaddrinfo ENOTFOUND api.anthropic.com"}
LATE = {"message": "TimeoutError: 23 timed out: nothing in 180000 ms"}
PATIENT = 15.0
"""The longest wait in seconds that ends no turn."""


def turn(story: Story, session: str, failure: dict[str, Any]) -> None:
    """One request of an agent as the shim makes it: it goes where it is led, until no other way is named."""
    answer = story.ask(session=session)
    for _ in range(5):
        if isinstance(answer, Wait):
            assert answer.retry_at is not None
            assert answer.retry_at - story.now <= PATIENT, "the agent would end its turn"
            return
        assert isinstance(answer, Use)
        use = answer if answer.lease else story.use(answer.provider, session)
        answer = story.report(use, "error", session=session, **failure).next
        if answer is None:
            return
    raise AssertionError("a request is led in circles")


def rests(story: Story) -> dict[str, float]:
    return {
        key: breaker.until - story.now
        for key, breaker in story.ledger.state.breakers.items()
        if breaker.state(story.now) == "open"
    }


@pytest.mark.parametrize("failure", [REFUSED, UNKNOWN, LATE], ids=["refused", "unknown", "late"])
@pytest.mark.parametrize("providers", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("every", [10.0, 60.0, 300.0])
@pytest.mark.parametrize("minutes", [1, 3, 5, 60])
def test_a_laptop_that_was_offline_is_as_good_as_new_when_the_network_is_back(
    minutes: int, every: float, providers: Any, failure: dict[str, Any]
) -> None:
    story = Story(*providers, patience=3.0)
    back = NOON + minutes * MINUTE
    while story.now < back:
        turn(story, "s", failure)
        story.settle(story.ledger.roll(story.now))
        story.now += every
    story.now = back
    answer = story.ask(session="s")
    if isinstance(answer, Wait):
        assert answer.retry_at is not None
        assert answer.retry_at - back <= PATIENT
        story.now = answer.retry_at
        answer = story.use(session="s")
    story.report(answer, "accepted")
    story.report(answer, "ok")
    assert rests(story) == {}
    assert {b.level for b in story.ledger.state.breakers.values()} == {0}
    assert story.use(session="another").reason == "preferred"
    assert story.told("all_limited") == []


def test_while_nothing_answers_the_log_is_not_filled() -> None:
    story = Story(*TWO)
    for _ in range(360):
        turn(story, "s", UNKNOWN)
        story.settle(story.ledger.roll(story.now))
        story.now += 10
    assert story.told("recovered") == []
    assert len(story.told("state")) <= 2, "one a provider"


def test_many_sessions_are_let_through_while_nobody_answers() -> None:
    story = Story(*ONE)
    for _ in range(3):
        turn(story, "s", UNKNOWN)
    assert [story.use(session=str(n)).provider for n in range(6)] == ["a"] * 6, "and no probe keeps them off"


def test_where_one_server_does_not_answer_and_another_does_the_first_one_rests() -> None:
    story = Story(*TWO)
    for n in range(3):
        recorded = story.report(story.use(session=str(n)), "error", session=str(n), **REFUSED)
        assert isinstance(recorded.next, Use)
        assert recorded.next.provider == "b"
        story.report(story.use(session=str(n)))
    assert rests(story) == {"server:a": 10.0}
    assert story.use(session="x").provider == "b"
    story.report(story.use(session="y"))
    assert rests(story) == {"server:a": 10.0}, "an answer from b says nothing of a: b never was gone"


def test_a_server_that_hangs_rests_longer_each_time_while_another_one_answers() -> None:
    story = Story(*TWO)
    for n in range(5):
        story.report(story.use(session=str(n)), "error", session=str(n), **LATE)
        story.report(story.use(session=str(n)))
    assert rests(story) == {"server:a": 30.0}
    story.now += 30
    story.report(story.use(session="probe"), "error", session="probe", **LATE)
    story.report(story.use(session="probe"))
    assert rests(story) == {"server:a": 60.0}


def test_the_first_answer_ends_the_rests_of_all_who_did_not_answer_and_no_other_rest() -> None:
    story = Story(*TWO, provider("c", 3), provider("d", 4, models=("other",)))
    story.refuse("c", after=HOUR)
    for n in range(5):
        story.report("d", "error", model="other", session=None, **LATE)
        turn(story, str(n), LATE)
    assert rests(story).keys() == {"account:c", "server:a", "server:b", "server:d"}
    story.report(story.use(session="new"), "accepted")
    assert rests(story).keys() == {"account:c"}
    assert story.told("state")[-3:].count("a answers again") == 1
    assert "b may be used again: a answers" in story.told("state")


def test_an_error_with_a_status_is_an_answer() -> None:
    story = Story(*TWO)
    for _ in range(3):
        turn(story, "s", UNKNOWN)
    story.report(story.use(session="new"), "error", status=401)
    assert rests(story) == {}


def test_a_rest_because_nothing_answered_survives_a_restart_and_still_holds_nobody_back() -> None:
    story = Story(*TWO)
    for n in range(5):
        turn(story, str(n), LATE)
    story.restart()
    assert rests(story).keys() == {"server:a", "server:b"}
    story.report(story.use(), "accepted")
    assert rests(story) == {}


def test_who_is_limited_stays_limited_while_the_other_does_not_answer() -> None:
    story = Story(*TWO)
    for n in range(5):
        story.report(story.use(session=str(n)), "error", session=str(n), **LATE)
    story.refuse("b", after=HOUR)
    assert story.use(session="x").provider == "a", "b is really limited; a may have come back"


def test_a_connection_that_breaks_after_its_answer_had_begun_is_no_unreachable_server() -> None:
    story = Story(*ONE)
    use = story.use()
    story.report(use, "accepted")
    assert story.report(use, "error", **REFUSED).verdict.kind == "transient"


@pytest.mark.parametrize("slept", [MINUTE, HOUR])
def test_what_was_under_way_while_the_machine_slept_says_nothing(slept: float) -> None:
    story = Story(*TWO)
    uses = [story.use(session=str(n)) for n in range(6)]
    for use in uses[:3]:
        story.report(use, "accepted")
    story.now += slept
    story.ledger.suspended(story.now)
    for n, use in enumerate(uses):
        failure = {"message": "Error: ECONNRESET socket closed", "started_at": NOON}
        recorded = story.report(use, "error", session=str(n), **failure)
        assert (recorded.next, recorded.verdict.until) == (None, None), "the agent sends it again, to the same place"
        assert story.use(session=str(n)).provider == "a"
    assert rests(story) == {}
    assert story.ledger.state.unanswered == set()


def test_what_began_after_the_machine_woke_up_counts() -> None:
    story = Story(*TWO)
    story.ledger.suspended(story.now)
    story.now += 1
    recorded = story.report(story.use(), "error", **UNKNOWN)
    assert isinstance(recorded.next, Use)
    assert story.ledger.state.unanswered == {"server:a"}
