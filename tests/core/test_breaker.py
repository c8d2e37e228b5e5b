"""The breaker's table, its waits, and which results it believes."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from rlmd.core.breaker import TRANSITIONS, Breaker, BreakerState, Event, Probe, jitter, rest
from rlmd.core.model import HOUR, Cooldown, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

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
    silent: bool = False,
) -> bool:
    return breaker.failed(
        Verdict(kind, "model", hint),
        lease=lease,
        started=at if started is None else started,
        now=at,
        cooldown=DEFAULT,
        rand=rand,
        window_end=window_end,
        silent=silent,
    )


def test_every_state_and_event_is_in_the_table_or_means_nothing() -> None:
    nothing = {pair for pair in product(get_args(BreakerState), get_args(Event)) if pair not in TRANSITIONS}
    assert nothing == {
        ("closed", "early_failed"),
        ("closed", "probe_passed"),
        ("closed", "heard"),
        ("closed", "pinned"),
        ("closed", "cleared"),
        ("open", "refused"),
        ("half_open", "early_failed"),
        ("half_open", "pinned"),
    }
    assert all(after in get_args(BreakerState) for after in TRANSITIONS.values())


BLOCK = 9 * HOUR
"""Of the breakers below, in the open and the half-open state; the half-open one is at its end."""


def a_breaker(state: BreakerState) -> Breaker:
    """A breaker whose every variable has a value that an event could change."""
    if state == "closed":
        return Breaker(level=6, changed=T - 2 * HOUR, streak=1, recent={1: (1, 1)})
    until = T + BLOCK if state == "open" else T
    return Breaker(
        opened=True,
        until=until,
        level=4,
        changed=T - HOUR,
        reason="credits",
        early_at=T,
        silent=True,
        probes={"p": Probe(T), "other": Probe(T + 20)},
        streak=1,
        recent={1: (1, 1)},
    )


EVENTS: dict[Event, Callable[[Breaker], object]] = {
    "refused": lambda b: fail(b, "throttle"),
    "told": lambda b: fail(b, "throttle", 10 * HOUR),
    "early_failed": lambda b: fail(b, "throttle", lease="p"),
    "probe_passed": lambda b: b.passed("p", T, T),
    "heard": lambda b: b.heard(T),
    "ordered": lambda b: b.order(T + 60, "lunch", T),
    "pinned": lambda b: b.pin(T),
    "cleared": lambda b: b.clear(T),
}
NOTHING = {"until": 0.0, "reason": "", "changed": T, "early_at": None, "silent": False, "probes": {}}
FORGOTTEN = {"streak": 0, "recent": {}}
OVERTAKEN = {"p": Probe(T, overtaken=True), "other": Probe(T + 20, overtaken=True)}
TOLD = {"until": T + 10 * HOUR, "reason": "throttle", "changed": T, "silent": False, "early_at": T + HOUR} | FORGOTTEN
ORDERED = {"until": T + 60, "reason": "lunch", "changed": T, "early_at": None, "silent": False}
CHANGES: dict[tuple[BreakerState, Event], dict[str, object]] = {
    # Closed for two hours: the level is two less before anything else.
    ("closed", "refused"): {"opened": True, "until": T + 480, "level": 5, "reason": "throttle", "changed": T}
    | FORGOTTEN,
    ("closed", "told"): {"opened": True, "level": 4, **TOLD},
    ("closed", "ordered"): {"opened": True, "level": 4, **ORDERED},
    ("open", "told"): {**TOLD, "probes": OVERTAKEN},
    ("open", "early_failed"): {"early_at": T + 2 * HOUR, "probes": {"other": Probe(T + 20)}},
    ("open", "probe_passed"): {"opened": False, "level": 2, **NOTHING},
    ("open", "heard"): {"opened": False, "level": 0, **NOTHING},
    ("open", "ordered"): {**ORDERED, "probes": OVERTAKEN},
    ("open", "pinned"): {"early_at": T},
    ("open", "cleared"): {"opened": False, "level": 0, **NOTHING, **FORGOTTEN},
    ("half_open", "refused"): {
        "until": T + 480,
        "level": 5,
        "reason": "throttle",
        "changed": T,
        "early_at": None,
        "silent": False,
        "probes": OVERTAKEN,
        **FORGOTTEN,
    },
    ("half_open", "told"): {**TOLD, "probes": OVERTAKEN},
    ("half_open", "probe_passed"): {"opened": False, "level": 2, **NOTHING},
    ("half_open", "heard"): {"opened": False, "level": 0, **NOTHING},
    ("half_open", "ordered"): {**ORDERED, "probes": OVERTAKEN},
    ("half_open", "cleared"): {"opened": False, "level": 0, **NOTHING, **FORGOTTEN},
}
"""What each event does to each variable; a variable that is not named stays as it is."""


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_an_event_changes_these_variables_and_no_other(state: BreakerState, event: Event) -> None:
    breaker = a_breaker(state)
    assert breaker.state(T) == state
    expected = msgspec.structs.asdict(breaker) | CHANGES[state, event]
    EVENTS[event](breaker)
    assert breaker.state(T) == TRANSITIONS[state, event]
    assert msgspec.structs.asdict(breaker) == expected


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        ("throttle", [30, 60, 120, 240, 480, 960, 1800, 1800]),
        ("quota", [3600, 7200, 14400, 28800, 28800]),
        ("credits", [3600, 3600]),
        ("overloaded", [10, 10, 10]),
        ("transient", [30, 60, 120]),
        ("unreachable", [10, 10, 10]),
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
    assert (breaker.until, breaker.reason, breaker.probes) == (T + 11 + HOUR, "quota", {})


def test_a_success_without_a_lease_that_started_after_the_block_is_evidence() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    assert breaker.passed(None, T + 10, T + 11)
    assert breaker.state(T + 11) == "closed"


def test_a_long_block_may_be_tried_early_after_an_hour_and_then_every_two() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    assert breaker.free_at(T, early=True) == T + HOUR
    assert breaker.free_at(T) == T + 8 * HOUR
    tried = []
    while breaker.early_at is not None:
        now = breaker.early_at
        tried.append((now - T) / HOUR)
        breaker.admit("probe", now)
        assert fail(breaker, "quota", lease="probe", started=now, at=now)
    assert tried == [1, 3, 5, 7], "at seven hours there is less than two left"
    assert (breaker.until, breaker.level) == (T + 8 * HOUR, 0)


def test_an_early_probe_that_is_told_a_later_end_moves_the_end() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=2 * HOUR)
    now = T + HOUR
    breaker.admit("probe", now)
    assert fail(breaker, "quota", hint=20 * HOUR, lease="probe", started=now, at=now)
    assert (breaker.until, breaker.early_at, breaker.level) == (now + 20 * HOUR, now + 2 * HOUR, 0)


def test_an_early_probe_that_is_told_a_sooner_end_moves_nothing_but_the_next_early_probe() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    now = T + HOUR
    breaker.admit("probe", now)
    assert fail(breaker, "quota", hint=HOUR, lease="probe", started=now, at=now)
    assert (breaker.until, breaker.early_at) == (T + 8 * HOUR, now + 2 * HOUR)


def test_an_early_probe_however_slow_is_the_only_one_and_its_success_counts() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    now = T + HOUR
    breaker.admit("slow", now)
    assert breaker.free_at(now + 300, early=True) == T + 8 * HOUR, "no other one leaves meanwhile"
    assert breaker.passed("slow", now, now + 300)
    assert breaker.state(now + 300) == "closed"


def test_a_slow_probe_of_a_half_open_breaker_counts_although_another_one_has_left_since() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    breaker.admit("slow", T + 10)
    breaker.admit("second", T + 30)
    assert breaker.free_at(T + 30) == T + 50
    assert breaker.passed("slow", T + 10, T + 40)
    assert breaker.state(T + 40) == "closed"


def test_a_probe_that_left_before_the_breaker_was_opened_again_is_no_evidence() -> None:
    breaker = Breaker()
    fail(breaker, hint=10)
    breaker.admit("slow", T + 10)
    breaker.admit("second", T + 30)
    fail(breaker, hint=60, lease="second", started=T + 30, at=T + 35)
    assert not breaker.passed("slow", T + 10, T + 40)
    assert breaker.state(T + 40) == "open"


def test_a_pin_lets_the_next_request_try_whatever_rests() -> None:
    for hint in (60, 8 * HOUR):
        breaker = Breaker()
        fail(breaker, hint=hint)
        assert breaker.pin(T + 1)
        assert breaker.free_at(T + 1, early=True) <= T + 1
        breaker.admit("probe", T + 1)
        fail(breaker, lease="probe", started=T + 1, at=T + 2)
        assert breaker.until == T + hint
        assert breaker.early_at == (None if hint == 60 else T + 2 + 2 * HOUR)


def test_a_level_falls_by_one_for_each_hour_that_the_breaker_was_closed() -> None:
    for hours, length in ((0, 240), (1, 120), (2.9, 60), (3, 30), (1000, 30)):
        breaker = Breaker(level=3, changed=T - hours * HOUR)
        fail(breaker)
        assert breaker.until == T + length, hours


def test_an_early_probe_that_passes_ends_the_block() -> None:
    breaker = Breaker()
    fail(breaker, "quota", hint=8 * HOUR)
    breaker.admit("probe", T + HOUR)
    assert breaker.passed("probe", T + HOUR, T + HOUR)
    assert breaker.state(T + HOUR) == "closed"


def test_a_block_of_an_hour_is_not_tried_early() -> None:
    breaker = Breaker()
    fail(breaker, hint=HOUR)
    assert breaker.early_at is None


def test_one_transient_failure_blocks_nothing_five_in_a_row_do() -> None:
    breaker = Breaker()
    assert [fail(breaker, "transient", at=T + 100 * n) for n in range(5)] == [False] * 4 + [True]
    assert breaker.until == T + 400 + 30


def test_one_transient_failure_blocks_nothing_whatever_wait_it_names() -> None:
    breaker = Breaker()
    ends = [fail(breaker, "transient", 120, at=T + 100 * n) and breaker.until for n in range(5)]
    assert ends == [False, False, False, False, T + 400 + 60], "then a minute of it is believed"
    assert fail(breaker, "transient", 7, at=T + 460)
    assert (breaker.until, breaker.level) == (T + 467, 0)


def test_two_in_a_row_that_reach_nobody_block_nothing_and_then_it_is_ten_seconds_each_time() -> None:
    breaker = Breaker()
    assert [fail(breaker, "unreachable", at=T + n, silent=True) for n in range(3)] == [False, False, True]
    assert (breaker.until, breaker.silent) == (T + 12, True)
    for n in range(50):
        assert fail(breaker, "unreachable", at=breaker.until, silent=True)
        assert (breaker.until, breaker.level) == (T + 22 + 10 * n, 0)


def test_a_rest_because_nothing_answered_ends_when_somebody_answers_and_no_other_rest_does() -> None:
    silent, told, ordered = Breaker(), Breaker(), Breaker()
    for n in range(3):
        fail(silent, "unreachable", at=T + n, silent=True)
        fail(told, "unreachable", at=T + n, silent=True)
    fail(told, "overloaded", 60, at=T + 3)
    ordered.order(T + 60, "lunch", T)
    assert [b.heard(T + 5) for b in (silent, told, ordered)] == [True, False, False]
    assert [b.state(T + 5) for b in (silent, told, ordered)] == ["closed", "open", "open"]


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
