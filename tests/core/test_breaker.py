"""The breaker's table, its waits, and which results it believes."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from rlmd.core.breaker import TRANSITIONS, Breaker, BreakerState, Event, jitter, rest
from rlmd.core.model import HOUR, Cooldown, Kind, Verdict

DEFAULT = Cooldown()
T = 1_768_219_200.0


def fail(
    breaker: Breaker,
    kind: Kind = "throttle",
    hint: float | None = None,
    *,
    at: float = T,
    started: float | None = None,
    lease: str | None = None,
    rand: float = 0.0,
    window_end: float | None = None,
) -> bool:
    return breaker.failed(
        Verdict(kind, "model", hint),
        lease=lease,
        started=at if started is None else started,
        now=at,
        cooldown=DEFAULT,
        rand=rand,
        window_end=window_end,
    )


def test_every_state_and_event_is_in_the_table_or_means_nothing() -> None:
    nothing = {pair for pair in product(get_args(BreakerState), get_args(Event)) if pair not in TRANSITIONS}
    assert nothing == {
        ("closed", "probe_passed"),
        ("closed", "cleared"),
        ("open", "refused"),
    }
    assert all(after in get_args(BreakerState) for after in TRANSITIONS.values())


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        ("throttle", [30, 60, 120, 240, 480, 960, 1800, 1800]),
        ("quota", [3600, 7200, 14400, 28800, 28800]),
        ("credits", [3600, 3600]),
        ("overloaded", [10, 10, 10]),
        ("transient", [30, 60, 120]),
    ],
)
def test_waits_without_a_hint(kind: Kind, waits: list[float]) -> None:
    assert [rest(kind, level, DEFAULT) for level in range(1, len(waits) + 1)] == waits


def test_jitter_is_positive_and_small() -> None:
    assert jitter(60, 0.5) == 6
    assert jitter(10_000, 0.999) == pytest.approx(29.97)
    assert jitter(0.0, 0.9) == 0


def test_a_hint_opens_until_it_and_the_level_stays() -> None:
    breaker = Breaker()
    assert fail(breaker, hint=60, rand=0.5)
    assert (breaker.state(T), breaker.until, breaker.level) == ("open", T + 66, 0)
    assert breaker.state(T + 66) == "half_open"


def test_without_a_hint_each_block_is_longer_and_a_passed_probe_halves_the_level() -> None:
    breaker = Breaker()
    ends = []
    now = T
    for _ in range(3):
        fail(breaker, at=now)
        ends.append(breaker.until - now)
        now = breaker.until
        breaker.admit("probe", now)
    assert ends == [30, 60, 120]
    assert breaker.passed("probe", now, now)
    assert (breaker.state(now), breaker.level) == ("closed", 1)


def test_a_storm_is_one_event() -> None:
    breaker = Breaker()
    assert fail(breaker)
    assert not fail(breaker, at=T + 1)
    assert (breaker.until, breaker.level) == (T + 30, 1)


def test_a_hint_that_ends_later_extends_a_block_and_a_shorter_one_does_not() -> None:
    breaker = Breaker()
    fail(breaker, hint=60)
    assert not fail(breaker, "overloaded", hint=5, at=T + 1)
    assert breaker.until == T + 60
    assert fail(breaker, hint=120, at=T + 1)
    assert breaker.until == T + 121


def test_an_overload_never_shortens_a_longer_block() -> None:
    breaker = Breaker()
    fail(breaker, "quota")
    fail(breaker, "overloaded", at=T + 5)
    assert breaker.until == T + HOUR


def test_a_quota_ends_with_its_window() -> None:
    breaker = Breaker()
    fail(breaker, "quota", window_end=T + 1234)
    assert breaker.until == T + 1234
    other = Breaker()
    fail(other, "quota", window_end=T - 1)
    assert other.until == T + HOUR, "a window that has ended says nothing"


def test_results_that_started_before_the_last_change_are_late() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    breaker.admit("probe", T + 10)
    assert breaker.passed("probe", T + 10, T + 11)
    assert not fail(breaker, started=T + 5, at=T + 12), "a late failure"
    assert not fail(breaker, hint=60, started=T + 5, at=T + 12), "a late hint has no block to extend"
    fail(breaker, hint=60, at=T + 20)
    assert not breaker.passed(None, T + 19, T + 21), "a late success"
    assert fail(breaker, hint=100, started=T + 19, at=T + 22), "a late hint that ends later extends"
    assert (breaker.until, breaker.level) == (T + 122, 0)


def test_success_while_open_changes_nothing() -> None:
    breaker = Breaker()
    fail(breaker, hint=60)
    assert not breaker.passed(None, T + 1, T + 2)
    assert breaker.state(T + 2) == "open"


def test_half_open_admits_one_and_knows_when_the_next_may_go() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    assert breaker.free_at(T) == T + 10
    assert breaker.free_at(T + 10) <= T + 10
    breaker.admit("one", T + 11)
    assert breaker.free_at(T + 11) == T + 31
    breaker.release("another")
    assert breaker.free_at(T + 11) == T + 31
    breaker.release("one")
    assert breaker.free_at(T + 11) <= T + 11


def test_a_probe_that_fails_opens_again_with_its_own_verdict() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    breaker.admit("probe", T + 10)
    assert fail(breaker, "quota", lease="probe", at=T + 11)
    assert (breaker.until, breaker.reason, breaker.probe) == (T + 11 + HOUR, "quota", None)


def test_a_success_without_a_lease_that_started_after_the_block_is_evidence() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    assert breaker.passed(None, T + 10, T + 11)
    assert breaker.state(T + 11) == "closed"


def test_a_long_block_may_be_tried_early_at_half_its_rest() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    assert breaker.free_at(T, early=True) == T + 4 * HOUR
    assert breaker.free_at(T) == T + 8 * HOUR
    now = T + 4 * HOUR
    breaker.admit("probe", now)
    assert breaker.free_at(now + 1, early=True) == now + 20, "one at a time"
    assert fail(breaker, "quota", lease="probe", started=now, at=now)
    assert (breaker.until, breaker.early_at, breaker.level) == (T + 8 * HOUR, now + 2 * HOUR, 0)


def test_an_early_probe_that_passes_ends_the_block() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    breaker.admit("probe", T + 4 * HOUR)
    assert breaker.passed("probe", T + 4 * HOUR, T + 4 * HOUR)
    assert breaker.state(T + 4 * HOUR) == "closed"


def test_a_block_of_an_hour_is_not_tried_early() -> None:
    breaker = Breaker()
    fail(breaker, hint=HOUR)
    assert breaker.early_at is None


def test_one_transient_failure_blocks_nothing_five_in_a_row_do() -> None:
    breaker = Breaker()
    assert [fail(breaker, "transient", at=T + 100 * n) for n in range(5)] == [False] * 4 + [True]
    assert breaker.until == T + 400 + 30


def test_over_half_of_at_least_five_in_a_minute_are_too_many() -> None:
    breaker = Breaker()
    breaker.sample(T, failed=False)
    breaker.sample(T + 1, failed=False)
    assert not fail(breaker, "transient", at=T + 2)
    assert not fail(breaker, "transient", at=T + 3), "two of four"
    assert fail(breaker, "transient", at=T + 4), "three of five"
    calm = Breaker()
    for second in range(5):
        calm.sample(T + second, failed=False)
        assert not fail(calm, "transient", at=T + second), "half is not over half"


def test_failures_of_the_minute_before_do_not_count() -> None:
    breaker = Breaker()
    for second in (0, 1, 2):
        fail(breaker, "transient", at=T + second)
    breaker.sample(T + 62, failed=False)
    assert not fail(breaker, "transient", at=T + 63)
    assert not fail(breaker, "transient", at=T + 64)


def test_an_order_by_hand_holds_and_is_never_tried_early() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    breaker.order(T + 9 * HOUR, "holiday", T + 1)
    assert (breaker.free_at(T + 2, early=True), breaker.reason) == (T + 9 * HOUR, "holiday")
    breaker.clear(T + 3)
    assert breaker.state(T + 3) == "closed"


def test_there_is_a_row_only_where_there_is_something_to_remember() -> None:
    breaker = Breaker()
    assert breaker.row() is None
    fail(breaker)
    row = breaker.row()
    assert row is not None
    assert (row["until"], row["level"]) == (T + 30, 1)
