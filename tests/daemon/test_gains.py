"""What switching gained: counted once, never more than is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from house import MODEL, NOON

from rlmd.store import history, history_reader
from rlmd.store.database import Store
from rlmd.store.history_savings import PastEvent, Savings, add_up
from rlmd.wire import messages
from rlmd.wire.messages import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rlmd.store.journal import Used

HOUR = 3600
LATE = NOON + 10 * HOUR
ALWAYS = {int(NOON) + hour * HOUR for hour in range(10)}


def left(at: float, until: float, provider: str = "a", session: str = "s") -> PastEvent:
    """A session is led away, minutes after noon, from a provider that rests until so many minutes after noon."""
    return PastEvent(NOON + at * 60, "switched", provider, session, NOON + until * 60)


def ended(at: float, event: str = "recovered", provider: str | None = "a") -> PastEvent:
    return PastEvent(NOON + at * 60, event, provider, None, None)


def gains(*told: PastEvent, busy: Iterable[int] = ALWAYS, now: float = LATE) -> tuple[int, float]:
    """How often, and the minutes not waited."""
    added = add_up(told, set(busy), now)
    return added.kept_going, added.not_waited / 60


def test_a_rest_that_was_not_waited_for() -> None:
    assert gains() == (0, 0)
    assert gains(left(10, 40)) == (1, 30)
    assert gains(left(10, 40), left(50, 55)) == (2, 35)


def test_sessions_side_by_side_count_once() -> None:
    assert gains(left(10, 40, session="s"), left(20, 40, session="t"), left(30, 50, session="u")) == (3, 40)


def test_who_is_led_on_before_the_rest_is_over_gains_nothing_more() -> None:
    assert gains(left(10, 40, "a"), left(20, 100, "b")) == (2, 30)
    assert gains(left(10, 40, "a"), left(40, 50, "b")) == (2, 40)


@pytest.mark.parametrize("event", [ended(25), ended(25, "state"), ended(25, "reset", None)])
def test_a_rest_that_ended_early_counts_until_then(event: PastEvent) -> None:
    assert gains(left(10, 40), event) == (1, 15)


def test_what_ends_for_another_provider_says_nothing() -> None:
    assert gains(left(10, 40), ended(25, provider="b")) == (1, 30)


def test_the_future_does_not_count() -> None:
    assert gains(left(10, 300), now=NOON + 15 * 60) == (1, 5)
    assert gains(left(10, 5)) == (1, 0)


def test_an_hour_without_a_request_does_not_count() -> None:
    noon, one, two = sorted(ALWAYS)[:3]
    assert gains(left(30, 150), busy=[noon, two]) == (1, 60)
    assert gains(left(30, 150), busy=[]) == (1, 0)
    assert gains(left(30, 150), busy=[one]) == (1, 60)


def test_a_request_in_any_quarter_makes_its_hour_busy(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    quarters = (NOON + 900, NOON + 2 * HOUR + 2700, NOON + 2 * HOUR + 3 * 900)
    usage: dict[Used, float] = {(int(quarter), "b", MODEL, "requests"): 1 for quarter in quarters}
    usage[int(NOON + HOUR), "b", MODEL, "switches"] = 1
    left_a = Event("switched", rfc3339(NOON), "", "a", session="s", to="b", until=rfc3339(NOON + 3 * HOUR))
    store.commit({}, {}, [(NOON, left_a)], usage)
    store.fold()
    assert read(store) == pytest.approx((1, 2 * HOUR), abs=0.01)
    assert read(store, since=NOON - 1) == pytest.approx((1, 2 * HOUR), abs=0.01)
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two switches and what ended one of them, among events that say nothing; requests in every hour."""
    store = Store(tmp_path / "state.db")
    told = [
        Event("switched", rfc3339(NOON), "", "a", session="s", to="b", until=rfc3339(NOON + 1800.5)),
        Event("state", rfc3339(NOON + 60), "a is disabled by hand", "a"),
        Event("switched", rfc3339(NOON + 900), "back again", "b", session="s", to="a"),
        Event("warning", rfc3339(NOON + 901), "", "a", until=rfc3339(NOON + 2000)),
        Event("switched", rfc3339(NOON + HOUR), "", "b", session="t", to="a", until=rfc3339(NOON + 2 * HOUR)),
        Event("recovered", rfc3339(NOON + HOUR + 60), "", "b"),
    ]
    events = [(datetime.fromisoformat(event.at).timestamp(), event) for event in told]
    store.commit({}, {}, events, {(hour, "b", MODEL, "requests"): 1 for hour in ALWAYS})
    store.fold()
    return store


def read(store: Store, provider: str | None = None, since: float = 0.0) -> Savings:
    query = messages.HistoryQuery(since=datetime.fromtimestamp(since, UTC), provider=provider)
    return Savings(*history_reader.read(history._asked(store.path, query, UTC, None, LATE))[1])


def test_the_history_tells_it_for_its_span_and_provider(store: Store) -> None:
    assert read(store) == pytest.approx((2, 1800.5 + 60), abs=0.01)
    assert read(store, "a") == pytest.approx((1, 1800.5), abs=0.01)
    assert read(store, "nobody") == (0, 0)
    assert read(store, since=NOON + 1) == pytest.approx((1, 60), abs=0.01)
    store.close()
