from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate
from math import inf, nextafter
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlmd.core.model import Limit
from rlmd.core.window import Window, WindowRow

if TYPE_CHECKING:
    from random import Random

    from rlmd.core.model import Quantity, WindowKind

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NOON = datetime(2026, 1, 12, 12, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def limit(window: WindowKind, per: str, *, zone: str = "UTC", maximum: float = 10, of: Quantity = "requests") -> Limit:
    return Limit(of=of, max=maximum, per=per, window=window, zone=ZoneInfo(zone))


def opened(window: WindowKind, per: str, zone: str = "UTC") -> Window:
    return Window.for_limit(limit(window, per, zone=zone))


KINDS = pytest.mark.parametrize("window", [("calendar", "1h"), ("rolling", "1h"), ("first_use", "1h")])


def restarted(window: Window, known: Limit) -> Window:
    """The window after it went through the database, as JSON."""
    return Window.from_row(known, msgspec.json.decode(msgspec.json.encode(window.row()), type=WindowRow))


# What all kinds have in common


@KINDS
def test_a_new_window_has_counted_nothing(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    assert (w.load(NOON), w.used(NOON), w.reserved(NOON)) == (0, 0, 0)
    assert w.empty(NOON)
    assert w.free_at(1, 1, NOON) == NOON


@KINDS
def test_a_reservation_takes_room_until_it_is_settled(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slot = w.reserve(1, NOON)
    assert (w.used(NOON), w.reserved(NOON), w.load(NOON)) == (0, 1, 1)
    w.settle(slot, 1, 1, NOON + 5)
    assert (w.used(NOON + 5), w.reserved(NOON + 5), w.load(NOON + 5)) == (1, 0, 1)


@KINDS
def test_a_refused_request_is_given_back_entirely(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slot = w.reserve(0.1, NOON)
    other = w.reserve(0.2, NOON)
    w.settle(slot, 0.1, 0, NOON + 1)
    assert w.load(NOON + 1) == 0.2
    w.settle(other, 0.2, 0, NOON + 1)
    assert w.load(NOON + 1) == 0
    assert w.empty(NOON + 1)


@KINDS
def test_less_than_was_reserved_goes_back_and_more_is_counted(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.settle(w.reserve(1000, NOON), 1000, 300, NOON + 1)
    assert w.load(NOON + 1) == 300
    w.settle(w.reserve(100, NOON + 1), 100, 250, NOON + 2)
    assert w.used(NOON + 2) == 550
    assert w.reserved(NOON + 2) == 0


@KINDS
def test_a_request_without_an_estimate_reserves_nothing_but_keeps_the_window(
    window: tuple[WindowKind, str],
) -> None:
    w = opened(*window)
    slot = w.reserve(0, NOON)
    assert w.load(NOON) == 0
    assert not w.empty(NOON)
    w.settle(slot, 0, 700, NOON + 20)
    assert w.used(NOON + 20) == 700


@KINDS
def test_a_late_refusal_takes_back_what_was_counted_and_never_more(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 1, NOON)
    w.refund(slot, 5, NOON + 1)
    assert w.load(NOON + 1) == 0
    w.refund(slot, 5, NOON + 1)
    assert w.load(NOON + 1) == 0


@KINDS
def test_a_refund_leaves_reservations_alone(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slot = w.reserve(3, NOON)
    w.refund(slot, 3, NOON)
    assert w.reserved(NOON) == 3


@KINDS
def test_what_ended_takes_no_refund_and_only_an_overage_is_counted_after(
    window: tuple[WindowKind, str],
) -> None:
    w = opened(*window)
    slot = w.reserve(10, NOON)
    later = NOON + 3 * HOUR
    w.settle(slot, 10, 15, later)
    assert w.load(later) == 5
    w.refund(slot, 10, later)
    assert w.load(later) == 5


@KINDS
def test_a_person_may_have_all_forgotten_but_what_is_reserved(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slot = w.reserve(2, NOON)
    w.count(7, NOON)
    w.count(1, NOON + 60)
    w.forget(NOON + 70)
    assert (w.used(NOON + 70), w.reserved(NOON + 70)) == (0, 2)
    w.settle(slot, 2, 1, NOON + 80)
    assert w.load(NOON + 80) == 1
    w.forget(NOON + 90)
    assert w.empty(NOON + 90)


@KINDS
def test_forgetting_brings_back_a_window_that_a_wrong_clock_took_into_the_future(
    window: tuple[WindowKind, str],
) -> None:
    w = opened(*window)
    w.count(1, NOON + 300 * DAY)
    w.count(10, NOON + 300 * DAY + 3 * HOUR)
    assert w.free_at(1, 10, NOON) != NOON
    w.forget(NOON)
    w.count(1, NOON)
    assert w.started(NOON) == NOON
    assert w.load(NOON) == 1
    assert w.load(NOON + 3 * HOUR) == 0


@KINDS
def test_amounts_of_money_add_up_exactly(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    slots = [w.reserve(0.1, NOON + i) for i in range(10)]
    assert w.load(NOON + 10) == 1.0
    for slot in slots:
        w.settle(slot, 0.1, 0.07, NOON + 10)
    assert w.used(NOON + 10) == 0.7
    for slot in slots:
        w.refund(slot, 0.07, NOON + 10)
    assert w.used(NOON + 10) == 0


@KINDS
def test_tokens_of_a_busy_month_are_exact_and_a_price_of_a_token_is_not_lost(
    window: tuple[WindowKind, str],
) -> None:
    w = opened(*window)
    for _ in range(7):
        w.count(400_123_457.0, NOON)
    assert w.used(NOON) == 2_800_864_199
    assert restarted(w, limit(*window)).used(NOON) == 2_800_864_199
    w.count(4e-8, NOON)
    assert w.used(NOON) == 2_800_864_199.00000004


@KINDS
def test_reading_changes_nothing_even_far_ahead(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.count(3, NOON)
    before = msgspec.json.encode(w.row())
    for later in (NOON, NOON + 10 * DAY):
        w.load(later)
        w.free_at(8, 10, later)
        w.resets_at(later)
        w.started(later)
    assert w.load(NOON + 10 * DAY) == 0
    assert w.empty(NOON + 10 * DAY)
    assert w.load(NOON) == 3
    assert msgspec.json.encode(w.row()) == before


@KINDS
def test_more_than_the_maximum_never_fits(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    assert w.free_at(11, 10, NOON) is None
    assert w.free_at(0, 0, NOON) is None
    assert w.free_at(0, -1, NOON) is None
    assert w.free_at(10, 10, NOON) == NOON


@KINDS
def test_a_lower_maximum_counts_at_once(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.count(5, NOON)
    assert w.free_at(1, 10, NOON) == NOON
    later = w.free_at(1, 5, NOON)
    assert later is not None
    assert later > NOON + 50 * MINUTE


@KINDS
def test_an_unknown_amount_fits_below_the_maximum_only(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.count(9.5, NOON)
    assert w.free_at(0, 10, NOON) == NOON
    w.count(0.5, NOON)
    assert w.free_at(0, 10, NOON) != NOON


@KINDS
def test_reservations_do_not_survive_a_restart(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.count(2, NOON)
    w.reserve(5, NOON)
    after = restarted(w, limit(*window))
    assert (after.used(NOON + 1), after.reserved(NOON + 1)) == (2, 0)
    assert after.started(NOON + 1) == w.started(NOON + 1)
    assert after.resets_at(NOON + 1) == w.resets_at(NOON + 1)


@KINDS
def test_a_window_of_which_nothing_is_left_restarts_empty(window: tuple[WindowKind, str]) -> None:
    w = opened(*window)
    w.reserve(5, NOON)
    after = restarted(w, limit(*window))
    assert after.empty(NOON)
    after.count(1, NOON)
    assert after.load(NOON) == 1


def test_a_window_that_makes_no_sense_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="no calendar period"):
        opened("calendar", "5h")
    with pytest.raises(ValueError, match="no span"):
        opened("rolling", "month")
    with pytest.raises(ValueError, match="no span"):
        opened("first_use", "month")


# Calendar


def test_an_hour_ends_at_the_full_hour() -> None:
    w = opened("calendar", "1h")
    w.count(10, NOON + 59 * MINUTE)
    assert w.started(NOON + 59 * MINUTE) == NOON
    assert w.resets_at(NOON + 59 * MINUTE) == NOON + HOUR
    assert w.free_at(1, 10, NOON + 59 * MINUTE) == NOON + HOUR
    assert w.load(NOON + HOUR - 0.001) == 10
    assert w.load(NOON + HOUR) == 0


def test_an_hour_in_which_nothing_happened_has_a_start_and_an_end_too() -> None:
    w = opened("calendar", "1h")
    w.count(10, NOON)
    assert w.started(NOON + 5.5 * HOUR) == NOON + 5 * HOUR
    assert w.resets_at(NOON + 5.5 * HOUR) == NOON + 6 * HOUR


def test_rolling_over_twice_is_harmless() -> None:
    w = opened("calendar", "1h")
    w.count(10, NOON)
    w.count(1, NOON + HOUR)
    w.refund(0, 1, NOON + HOUR)
    w.settle(0, 1, 1, NOON + HOUR)
    assert w.load(NOON + HOUR) == 1


def test_a_clock_that_steps_back_does_not_open_the_last_hour_again() -> None:
    w = opened("calendar", "1h")
    w.count(10, NOON - 1)
    w.count(3, NOON + 1)
    assert w.load(NOON - 1) == 3
    w.count(1, NOON - 1)
    assert w.load(NOON - 1) == 4
    assert w.started(NOON - 1) == NOON
    assert w.free_at(8, 10, NOON - 1) == NOON + HOUR


def test_a_reservation_of_the_last_hour_is_gone_and_its_overage_is_of_this_one() -> None:
    w = opened("calendar", "1h")
    slot = w.reserve(100, NOON - 10)
    w.count(7, NOON)
    w.settle(slot, 100, 130, NOON + 5)
    assert w.used(NOON + 5) == 37
    assert w.reserved(NOON + 5) == 0


BOUNDARIES = [
    ("1h", "UTC", "2026-01-12 13:00"),
    ("1d", "America/Los_Angeles", "2026-03-09 07:00"),
    ("1d", "Europe/Berlin", "2026-10-25 23:00"),
    ("1d", "America/Havana", "2026-03-08 05:00"),
    ("1d", "America/Santiago", "2026-04-05 04:00"),
    ("1d", "Africa/Cairo", "2026-10-29 22:00"),
    ("1d", "Pacific/Apia", "2011-12-30 10:00"),
    ("1h", "Australia/Lord_Howe", "2026-04-04 15:30"),
    ("1w", "Pacific/Apia", "2012-01-01 10:00"),
    ("month", "America/Los_Angeles", "2026-04-01 07:00"),
]


@pytest.mark.parametrize(("per", "zone", "boundary"), BOUNDARIES)
def test_what_was_counted_before_a_boundary_is_gone_after_a_restart_across_it(
    per: str, zone: str, boundary: str
) -> None:
    known = limit("calendar", per, zone=zone)
    w = Window.for_limit(known)
    w.count(4, at(boundary) - 1)
    after = restarted(w, known)
    assert after.load(at(boundary) - 0.5) == 4
    assert after.resets_at(at(boundary) - 0.5) == at(boundary)
    assert after.free_at(7, 10, at(boundary) - 0.5) == at(boundary)
    assert after.load(at(boundary)) == 0
    after.count(1, at(boundary))
    assert after.load(at(boundary)) == 1
    assert after.started(at(boundary)) == at(boundary)


# First use


def test_the_first_request_opens_the_window_and_its_length_closes_it() -> None:
    w = opened("first_use", "5h")
    assert w.started(NOON) is None
    assert w.resets_at(NOON) is None
    slot = w.reserve(1, NOON + 0.3)
    w.settle(slot, 1, 1, NOON + 20)
    w.count(9, NOON + 4 * HOUR)
    assert w.started(NOON + 4 * HOUR) == NOON + 0.3
    end = NOON + 0.3 + 5 * HOUR
    assert w.resets_at(NOON + 4 * HOUR) == end
    assert w.free_at(1, 10, NOON + 4 * HOUR) == end
    assert w.load(end - 0.001) == 10
    assert w.load(end) == 0
    assert w.started(end) is None
    assert w.resets_at(end) is None


def test_the_next_window_opens_with_the_next_request_not_where_the_last_one_ended() -> None:
    w = opened("first_use", "5h")
    w.count(1, NOON)
    w.count(1, NOON + 7 * HOUR)
    assert w.started(NOON + 8 * HOUR) == NOON + 7 * HOUR
    assert w.load(NOON + 8 * HOUR) == 1


def test_a_window_is_closed_again_if_the_request_that_opened_it_was_refused() -> None:
    w = opened("first_use", "5h")
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 0, NOON + 5)
    assert w.resets_at(NOON + 5) is None
    w.count(1, NOON + HOUR)
    assert w.resets_at(NOON + HOUR) == NOON + 6 * HOUR


def test_a_late_refusal_closes_it_too() -> None:
    w = opened("first_use", "5h")
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 1, NOON + 5)
    w.refund(slot, 1, NOON + 50)
    assert w.started(NOON + 50) is None


def test_a_request_without_an_estimate_opens_it_and_while_another_is_out_it_stays_open() -> None:
    w = opened("first_use", "5h")
    first, second = w.reserve(0, NOON), w.reserve(0, NOON + 60)
    assert w.resets_at(NOON + 60) == NOON + 5 * HOUR
    w.settle(first, 0, 0, NOON + 70)
    assert w.started(NOON + 70) == NOON
    w.settle(second, 0, 500, NOON + 80)
    assert w.started(NOON + 80) == NOON
    assert w.used(NOON + 80) == 500


def test_counting_nothing_opens_nothing() -> None:
    w = opened("first_use", "5h")
    w.count(0, NOON)
    assert w.resets_at(NOON) is None
    assert w.empty(NOON)


def test_a_step_back_neither_closes_it_nor_opens_it_earlier_than_the_last_one_ended() -> None:
    w = opened("first_use", "5h")
    w.count(3, NOON)
    w.count(1, NOON - HOUR)
    assert w.load(NOON - HOUR) == 4
    assert w.resets_at(NOON - HOUR) == NOON + 5 * HOUR
    w.count(2, NOON + 6 * HOUR)
    assert w.load(NOON) == 2
    slot = w.reserve(0, NOON + 12 * HOUR)
    w.settle(slot, 0, 0, NOON + 12 * HOUR)
    w.count(1, NOON)
    assert w.started(NOON) == NOON + 12 * HOUR


def test_a_window_that_ended_is_not_gone_back_into_but_one_that_closed_unused_may_be() -> None:
    w = opened("first_use", "5h")
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 1, NOON + 6 * HOUR)
    w.count(1, NOON + HOUR)
    assert w.started(NOON + HOUR) == NOON + 5 * HOUR

    w = opened("first_use", "5h")
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 0, NOON)
    w.refund(slot, 1, NOON + 6 * HOUR)
    w.count(1, NOON + HOUR)
    assert w.started(NOON + HOUR) == NOON + HOUR


def test_a_first_use_window_restarts_open_or_past() -> None:
    known = limit("first_use", "5h")
    w = Window.for_limit(known)
    w.count(4, NOON)
    after = restarted(w, known)
    assert after.load(NOON + 5 * HOUR - 0.001) == 4
    assert after.resets_at(NOON + HOUR) == NOON + 5 * HOUR
    assert after.load(NOON + 5 * HOUR) == 0
    after.count(1, NOON + 6 * HOUR)
    assert after.resets_at(NOON + 6 * HOUR) == NOON + 11 * HOUR


# Rolling


def test_a_request_leaves_when_its_bucket_is_wholly_past() -> None:
    w = opened("rolling", "1h")  # buckets of a minute
    w.count(10, NOON + 30)
    for moment in (NOON + HOUR, NOON + HOUR + 30, NOON + HOUR + 59.999):
        assert w.load(moment) == 10
    assert w.load(NOON + HOUR + MINUTE) == 0
    assert w.resets_at(NOON + 30) == NOON + HOUR + MINUTE
    assert w.resets_at(NOON + HOUR + MINUTE) is None


def test_room_comes_back_bucket_by_bucket() -> None:
    w = opened("rolling", "1m")  # buckets of a second
    for i in range(10):
        w.count(1, NOON + i)
    now = NOON + 20
    assert w.free_at(1, 10, now) == NOON + 61
    assert w.free_at(4, 10, now) == NOON + 64
    assert w.free_at(10, 10, now) == NOON + 70
    assert w.resets_at(NOON + 64.5) == NOON + 65
    assert w.load(NOON + 64.5) == 6
    assert w.free_at(5, 10, NOON + 64.5) == NOON + 65


def test_reservations_count_as_staying() -> None:
    w = opened("rolling", "1m")
    w.reserve(6, NOON)
    w.count(4, NOON + 5)
    assert w.free_at(6, 10, NOON + 10) == NOON + 61


def test_what_comes_back_goes_to_its_own_bucket() -> None:
    w = opened("rolling", "1m")
    slot = w.reserve(10, NOON)
    w.settle(slot, 10, 4, NOON + 40)
    w.settle(w.reserve(1, NOON + 41), 1, 3, NOON + 50)
    assert w.load(NOON + 60) == 7
    assert w.load(NOON + 61) == 3
    assert w.load(NOON + 102) == 2
    assert w.load(NOON + 111) == 0


def test_a_new_rolling_window_for_warnings_begins_when_the_bucket_that_opened_it_has_left() -> None:
    w = opened("rolling", "1m")
    assert w.started(NOON) is None
    for i in range(0, 61, 10):
        w.count(1, NOON + i)
        assert w.started(NOON + i) == NOON
    w.count(1, NOON + 61)
    assert w.started(NOON + 61) == NOON + 61
    assert restarted(w, limit("rolling", "1m")).started(NOON + 62) == NOON + 61
    w.count(1, NOON + 500)
    assert w.started(NOON + 500) == NOON + 500
    assert w.started(NOON + 600) is None


def test_small_steps_back_are_counted_where_they_say_and_nothing_is_lost() -> None:
    w = opened("rolling", "1m")
    w.count(5, NOON)
    w.count(3, NOON - 20)
    assert w.load(NOON - 20) == 8
    assert w.free_at(5, 10, NOON - 20) == NOON + 41
    assert w.free_at(6, 10, NOON - 20) == NOON + 61
    assert w.load(NOON + 41) == 5
    assert w.load(NOON + 61) == 0


def test_what_is_done_once_a_window_is_not_done_again_because_the_clock_stepped_back() -> None:
    w = opened("rolling", "1m")
    slot = w.reserve(1, NOON)
    w.settle(slot, 1, 0, NOON)
    w.count(1, NOON - 20)
    assert w.started(NOON - 20) == NOON


def test_a_large_step_back_opens_no_bucket_that_was_left_behind() -> None:
    w = opened("rolling", "1m")
    lost = w.reserve(5, NOON)
    w.count(1, NOON + 100)
    w.count(2, NOON)
    w.settle(lost, 5, 0, NOON)
    w.refund(lost, 5, NOON)
    assert w.load(NOON) == 3
    assert w.load(NOON + 100.9) == 3
    assert w.load(NOON + 101) == 1


def test_a_rolling_window_restarts_with_the_buckets_that_still_count() -> None:
    known = limit("rolling", "1m")
    w = Window.for_limit(known)
    w.count(4, NOON)
    w.count(2, NOON + 30)
    after = restarted(w, known)
    assert after.load(NOON + 60.9) == 6
    assert after.load(NOON + 61) == 2
    assert after.load(NOON + 91) == 0
    after.count(1, NOON + 61)
    assert [amount for _, amount in after.row().used] == [2, 1]


@pytest.mark.parametrize("per", ["1s", "7s", "1m", "90s", "17m", "5h", "7d", "13w"])
def test_a_rolling_window_counts_no_less_than_its_span_and_a_bucket_more(per: str) -> None:
    w = opened("rolling", per)
    length = {"s": 1, "m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY}[per[-1]] * int(per[:-1])
    w.count(1, NOON + 0.1)
    assert w.load(NOON + 0.1 + length) == 1
    leaves = w.resets_at(NOON + 0.1)
    assert leaves is not None
    assert length < leaves - (NOON + 0.1) <= length * 61 / 60 + 1e-4
    assert w.load(leaves) == 0

    edge = leaves - 60 * w.length
    latest = nextafter(edge, 0)
    w = opened("rolling", per)
    w.count(1, latest)
    assert w.resets_at(latest) == leaves
    assert leaves >= edge + length


# Against a naive list of what happened

Span = tuple["WindowKind", str, float]
SPANS: list[Span] = [
    ("calendar", "1h", HOUR),
    ("first_use", "5h", 5 * HOUR),
    ("first_use", "90s", 90.0),
    ("rolling", "1m", 60.0),
    ("rolling", "5h", 5 * HOUR),
    ("rolling", "7s", 7.0),
]


class Event:
    """Something counted or reserved: it counts for sure until `sure`, and not at all from `gone` on."""

    def __init__(self, slot: float, sure: float, gone: float) -> None:
        self.slot = slot
        self.sure = sure
        self.gone = gone
        self.reserved = 0
        self.used = 0


class Naive:
    """A list of what happened. Only what is written moves it on, and only forwards."""

    def __init__(self, kind: WindowKind, span: float) -> None:
        self.kind = kind
        self.span = span
        self.events: list[Event] = []
        self.latest = 0.0
        self.earliest_opening = 0.0

    def write(self, now: float) -> None:
        self.latest = max(self.latest, now)
        for event in self.events:
            if event.gone <= now:
                self.earliest_opening = max(self.earliest_opening, event.gone)
            if event.sure <= now:
                event.sure = -inf
        self.events = [e for e in self.events if e.gone > now]

    def add(self, now: float, slot: float) -> Event:
        match self.kind:
            case "calendar":  # in UTC; the latest seen, where the clock stepped back
                sure = gone = (max(now, self.latest) // self.span + 1) * self.span
            case "first_use":
                if not self.events:
                    self.earliest_opening = max(now, self.earliest_opening)
                sure = gone = self.earliest_opening + self.span
            case "rolling":  # a bucket more than the span at most, or until the clock is back where it was
                sure = now + self.span
                gone = max(sure, self.latest) + self.span / 60 + 1e-3
        event = Event(slot, sure, gone)
        self.events.append(event)
        return event

    def forget(self, event: Event) -> None:
        self.events = [e for e in self.events if e is not event]

    def least(self, now: float) -> float:
        return sum(e.used + e.reserved for e in self.events if e.sure > now) / 1000

    def most(self, now: float) -> float:
        return sum(e.used + e.reserved for e in self.events if e.gone > now) / 1000


thousandths = st.integers(0, 5000)
maxima = st.sampled_from([0.0, 0.3, 1.0, 7.25, 20.0])


class WindowAgainstNaive(RuleBasedStateMachine):
    """Amounts are drawn in thousandths, so that the sums of the list are exact too."""

    @initialize(span=st.sampled_from(SPANS), now=st.floats(NOON, NOON + DAY))
    def begin(self, span: Span, now: float) -> None:
        kind, per, length = span
        self.limit = limit(kind, per)
        self.window = Window.for_limit(self.limit)
        self.naive = Naive(kind, length)
        self.now = now
        self.out: list[Event] = []
        self.settled: list[Event] = []

    @rule(spans=st.one_of(st.floats(0, 0.05), st.floats(0, 1.2), st.just(61 / 60), st.floats(1, 30)))
    def time_passes(self, spans: float) -> None:
        self.now += spans * self.naive.span

    @rule(spans=st.one_of(st.floats(0, 0.05), st.floats(0, 5)))
    def the_clock_steps_back(self, spans: float) -> None:
        self.now -= spans * self.naive.span

    @rule(amount=thousandths)
    def reserve(self, amount: int) -> None:
        self.naive.write(self.now)
        event = self.naive.add(self.now, self.window.reserve(amount / 1000, self.now))
        event.reserved = amount
        self.out.append(event)

    @rule(which=st.randoms(use_true_random=False), actual=st.one_of(st.none(), st.just(0), thousandths))
    def settle(self, which: Random, actual: int | None) -> None:
        """As reserved, given back, or some other figure."""
        if not self.out:
            return
        event = self.out.pop(which.randrange(len(self.out)))
        real = event.reserved if actual is None else actual
        self.window.settle(event.slot, event.reserved / 1000, real / 1000, self.now)
        self.naive.write(self.now)
        if real > event.reserved:
            self.naive.add(self.now, event.slot).used = real - event.reserved
        event.used, event.reserved = min(real, event.reserved), 0
        self.settled.append(event)
        if not event.used:
            self.naive.forget(event)

    @rule(amount=thousandths)
    def count(self, amount: int) -> None:
        self.window.count(amount / 1000, self.now)
        if amount:  # nothing opens no window, and leaves none behind
            self.naive.write(self.now)
            self.naive.add(self.now, 0.0).used = amount

    @rule(which=st.randoms(use_true_random=False), part=st.floats(0, 1))
    def refund(self, which: Random, part: float) -> None:
        if not self.settled:
            return
        event = which.choice(self.settled)
        amount = round(part * event.used)
        self.window.refund(event.slot, amount / 1000, self.now)
        self.naive.write(self.now)
        event.used -= amount
        if not event.used:
            self.naive.forget(event)

    @rule()
    def restart(self) -> None:
        self.window = restarted(self.window, self.limit)
        for event in self.out:
            event.reserved = 0
        self.out = []
        self.naive.events = [e for e in self.naive.events if e.used]
        self.settled = [e for e in self.settled if e.sure > -inf]

    @rule(spans=st.floats(-2, 2))
    def look_ahead_and_back(self, spans: float) -> None:
        self.compare(self.now + spans * self.naive.span)

    @rule(amount=st.one_of(st.just(0.0), st.floats(0, 25)), maximum=maxima)
    def ask_when_there_is_room(self, amount: float, maximum: float) -> None:
        def fits(moment: float) -> bool:
            load = self.window.load(moment)
            return load + amount <= maximum if amount else load < maximum

        free = self.window.free_at(amount, maximum, self.now)
        if free is None:
            assert amount > maximum or maximum <= 0
        else:
            assert fits(free)
            assert free >= self.now
            assert free == self.now or not fits(max(self.now, free - 1e-3))

    @invariant()
    def counts_what_happened(self) -> None:
        self.compare(self.now)

    def compare(self, now: float) -> None:
        load = self.window.load(now)
        assert self.naive.least(now) <= load <= self.naive.most(now)
        if self.limit.window != "rolling":
            assert load == self.naive.most(now)
        assert self.window.used(now) >= 0
        assert self.window.reserved(now) >= 0
        assert self.window.used(now) + self.window.reserved(now) == pytest.approx(load)

    @invariant()
    def starts_and_ends_around_what_it_counts(self) -> None:
        started, resets_at = self.window.started(self.now), self.window.resets_at(self.now)
        assert (started is None) == (resets_at is None)
        assert resets_at is None or resets_at > self.now
        if self.limit.window != "calendar":
            assert (started is None) == self.window.empty(self.now)
        if not self.naive.events:
            assert self.window.empty(self.now)


TestWindowAgainstNaive = WindowAgainstNaive.TestCase
TestWindowAgainstNaive.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(
    span=st.sampled_from(SPANS),
    maximum=st.sampled_from([1, 3, 10]),
    steps=st.lists(
        st.tuples(st.floats(-1, 2), st.integers(1, 4), st.sampled_from(["hold", "use", "refuse"])),
        max_size=60,
    ),
)
def test_who_asks_first_never_goes_over_the_maximum(
    span: Span, maximum: int, steps: list[tuple[float, int, str]]
) -> None:
    kind, per, length = span
    w = Window.for_limit(limit(kind, per))
    moments = accumulate((length * part / 10 for part, _, _ in steps), initial=NOON)
    for now, (_, amount, end) in zip(moments, steps, strict=False):
        if w.free_at(amount, maximum, now) == now:
            slot = w.reserve(amount, now)
            if end != "hold":
                w.settle(slot, amount, amount if end == "use" else 0, now)
        assert w.load(now) <= maximum


@settings(deadline=None)
@given(amounts=st.lists(st.floats(1e-6, 1000), min_size=1, max_size=200), length=st.integers(0, 3600))
def test_everything_taken_back_leaves_exactly_nothing(amounts: list[float], length: int) -> None:
    for kind in ("calendar", "first_use", "rolling"):
        w = opened(kind, "1h")
        slots = [w.reserve(a, NOON + length * i / len(amounts) / 2) for i, a in enumerate(amounts)]
        for slot, amount in zip(slots, amounts, strict=True):
            w.settle(slot, amount, amount, NOON + length / 2)
        for slot, amount in reversed(list(zip(slots, amounts, strict=True))):
            w.refund(slot, amount, NOON + length / 2)
        assert w.load(NOON + length / 2) == 0
        assert w.empty(NOON + length / 2)
        assert w.row().used == []
