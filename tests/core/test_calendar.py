from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmd.core.calendar import bounds, seconds

ZONES = [
    "Africa/Cairo",
    "America/Havana",
    "America/Los_Angeles",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "UTC",
]
PERIODS = ["1h", "1d", "1w", "month"]
MINUTE, HOUR, DAY = 60, 3600, 86400


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# A start and an end in UTC, from the zones' published rules; any moment between them is of that period.
DAYS = [
    ("UTC", "2026-01-12 00:00", "2026-01-13 00:00", 24),
    ("America/Los_Angeles", "2026-01-12 08:00", "2026-01-13 08:00", 24),
    # Clocks go from 02:00 to 03:00 on 8 March, from 02:00 back to 01:00 on 1 November.
    ("America/Los_Angeles", "2026-03-08 08:00", "2026-03-09 07:00", 23),
    ("America/Los_Angeles", "2026-11-01 07:00", "2026-11-02 08:00", 25),
    ("Europe/Berlin", "2026-03-28 23:00", "2026-03-29 22:00", 23),
    ("Europe/Berlin", "2026-10-24 22:00", "2026-10-25 23:00", 25),
    # 8 March begins at 01:00, because 00:00 is skipped; on 1 November midnight comes twice.
    ("America/Havana", "2026-03-08 05:00", "2026-03-09 04:00", 23),
    ("America/Havana", "2026-11-01 04:00", "2026-11-02 05:00", 25),
    # The hour before midnight comes twice on 4 April; 6 September begins at 01:00.
    ("America/Santiago", "2026-04-04 03:00", "2026-04-05 04:00", 25),
    ("America/Santiago", "2026-09-06 04:00", "2026-09-07 03:00", 23),
    ("Africa/Cairo", "2026-04-23 22:00", "2026-04-24 21:00", 23),
    ("Africa/Cairo", "2026-10-28 21:00", "2026-10-29 22:00", 25),
    ("Asia/Beirut", "2026-03-28 22:00", "2026-03-29 21:00", 23),
    ("Asia/Beirut", "2026-10-23 21:00", "2026-10-24 22:00", 25),
    ("America/Sao_Paulo", "2018-02-17 02:00", "2018-02-18 03:00", 25),
    ("America/Sao_Paulo", "2018-11-04 03:00", "2018-11-05 02:00", 23),
    ("Atlantic/Azores", "2026-03-29 01:00", "2026-03-30 00:00", 23),
    ("Atlantic/Azores", "2026-10-25 00:00", "2026-10-26 01:00", 25),
    # Half an hour, at 02:00.
    ("Australia/Lord_Howe", "2026-04-04 13:00", "2026-04-05 13:30", 24.5),
    ("Australia/Lord_Howe", "2026-10-03 13:30", "2026-10-04 13:00", 23.5),
    # 30 December 2011 was skipped: the 29th ends where the 31st begins.
    ("Pacific/Apia", "2011-12-29 10:00", "2011-12-30 10:00", 24),
    ("Pacific/Apia", "2011-12-30 10:00", "2011-12-31 10:00", 24),
    ("Asia/Kathmandu", "2026-01-11 18:15", "2026-01-12 18:15", 24),
    # At 00:01 clocks went back to 23:01: the 7th had begun, and does not end to begin again.
    ("America/St_Johns", "2010-11-07 02:30", "2010-11-08 03:30", 25),
    ("America/St_Johns", "2010-11-06 02:30", "2010-11-07 02:30", 24),
    # From 23:30 to 00:30: midnight lies inside what was skipped.
    ("America/Toronto", "1919-03-30 05:00", "1919-03-31 04:30", 23.5),
    ("America/Toronto", "1919-03-31 04:30", "1919-04-01 04:00", 23.5),
]

WEEKS = [
    ("UTC", "2026-01-12 00:00", "2026-01-19 00:00", 7 * 24),
    ("America/Los_Angeles", "2026-03-02 08:00", "2026-03-09 07:00", 7 * 24 - 1),
    ("America/Los_Angeles", "2026-10-26 07:00", "2026-11-02 08:00", 7 * 24 + 1),
    ("Europe/Berlin", "2026-10-18 22:00", "2026-10-25 23:00", 7 * 24 + 1),
    ("Australia/Lord_Howe", "2026-03-29 13:00", "2026-04-05 13:30", 7 * 24 + 0.5),
    ("Pacific/Apia", "2011-12-26 10:00", "2012-01-01 10:00", 6 * 24),
    ("Asia/Kathmandu", "2025-12-28 18:15", "2026-01-04 18:15", 7 * 24),
]

MONTHS = [
    ("UTC", "2026-02-01 00:00", "2026-03-01 00:00", 28 * 24),
    ("UTC", "2028-02-01 00:00", "2028-03-01 00:00", 29 * 24),
    ("UTC", "2025-12-01 00:00", "2026-01-01 00:00", 31 * 24),
    ("America/Los_Angeles", "2026-03-01 08:00", "2026-04-01 07:00", 31 * 24 - 1),
    ("America/Los_Angeles", "2026-11-01 07:00", "2026-12-01 08:00", 30 * 24 + 1),
    ("America/Havana", "2026-11-01 04:00", "2026-12-01 05:00", 30 * 24 + 1),
    ("America/Santiago", "2026-04-01 03:00", "2026-05-01 04:00", 30 * 24 + 1),
    ("Africa/Cairo", "2026-03-31 22:00", "2026-04-30 21:00", 30 * 24 - 1),
    ("Pacific/Apia", "2011-12-01 10:00", "2011-12-31 10:00", 30 * 24),
]

HOURS = [
    ("UTC", "2026-01-12 17:00", "2026-01-12 18:00", 1),
    ("Asia/Kathmandu", "2026-01-12 17:15", "2026-01-12 18:15", 1),
    # 02:00 to 03:00 is skipped: 01:00 is followed by 03:00.
    ("America/Los_Angeles", "2026-03-08 09:00", "2026-03-08 10:00", 1),
    ("America/Los_Angeles", "2026-03-08 10:00", "2026-03-08 11:00", 1),
    # 01:00 comes twice: two windows of an hour each.
    ("America/Los_Angeles", "2026-11-01 08:00", "2026-11-01 09:00", 1),
    ("America/Los_Angeles", "2026-11-01 09:00", "2026-11-01 10:00", 1),
    # The clock goes from 02:00 back to 01:30, and shows 01 for an hour and a half.
    ("Australia/Lord_Howe", "2026-04-04 14:00", "2026-04-04 15:30", 1.5),
    ("Australia/Lord_Howe", "2026-04-04 15:30", "2026-04-04 16:30", 1),
    # From 02:00 to 02:30: it shows 02 for half an hour.
    ("Australia/Lord_Howe", "2026-10-03 14:30", "2026-10-03 15:30", 1),
    ("Australia/Lord_Howe", "2026-10-03 15:30", "2026-10-03 16:00", 0.5),
    ("Pacific/Apia", "2011-12-30 09:00", "2011-12-30 10:00", 1),
    ("Pacific/Apia", "2011-12-30 10:00", "2011-12-30 11:00", 1),
]

TABLE = [
    *(("1h", *row) for row in HOURS),
    *(("1d", *row) for row in DAYS),
    *(("1w", *row) for row in WEEKS),
    *(("month", *row) for row in MONTHS),
]


@pytest.mark.parametrize(("per", "zone", "start", "end", "hours"), TABLE)
def test_a_period_starts_and_ends_as_the_wall_clock_says(
    per: str, zone: str, start: str, end: str, hours: float
) -> None:
    expected = (at(start), at(end))
    assert expected[1] - expected[0] == hours * HOUR
    for now in (at(start), at(start) + 0.5, (at(start) + at(end)) / 2, at(end) - 1e-6):
        assert bounds(per, now, ZoneInfo(zone)) == expected


def test_the_last_float_before_a_midnight_is_not_rounded_into_the_next_day() -> None:
    midnight = at("2026-01-13 00:00")
    assert bounds("1d", midnight - 2.4e-7, UTC) == (midnight - DAY, midnight)
    assert bounds("1d", midnight, UTC) == (midnight, midnight + DAY)


# Around each shift of the clocks above; and around the skipped day.
SHIFTS = [
    ("Africa/Cairo", "2026-04-23 22:00"),
    ("Africa/Cairo", "2026-10-29 21:00"),
    ("America/Havana", "2026-03-08 05:00"),
    ("America/Havana", "2026-11-01 05:00"),
    ("America/Los_Angeles", "2026-03-08 10:00"),
    ("America/Los_Angeles", "2026-11-01 09:00"),
    ("America/Santiago", "2026-04-05 03:00"),
    ("America/Santiago", "2026-09-06 04:00"),
    ("America/Sao_Paulo", "2018-02-18 02:00"),
    ("America/Sao_Paulo", "2018-11-04 03:00"),
    ("America/St_Johns", "2010-03-14 03:31"),
    ("America/St_Johns", "2010-11-07 02:31"),
    ("America/Toronto", "1919-03-31 04:30"),
    ("Asia/Beirut", "2026-03-28 22:00"),
    ("Asia/Beirut", "2026-10-24 21:00"),
    ("Asia/Kathmandu", "1985-12-31 18:30"),
    ("Atlantic/Azores", "2026-03-29 01:00"),
    ("Atlantic/Azores", "2026-10-25 01:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ("Europe/Berlin", "2026-03-29 01:00"),
    ("Europe/Berlin", "2026-10-25 01:00"),
    ("Pacific/Apia", "2011-12-30 10:00"),
    ("UTC", "2026-01-12 12:00"),
]


@pytest.mark.parametrize(("zone", "shift"), SHIFTS)
def test_days_start_where_a_walk_along_the_minutes_first_sees_a_later_date(zone: str, shift: str) -> None:
    starts = []
    latest = None
    for now in range(int(at(shift)) - 40 * HOUR, int(at(shift)) + 40 * HOUR, MINUTE):
        date = datetime.fromtimestamp(now, ZoneInfo(zone)).date()
        if latest is None or date > latest:
            latest = date
            starts.append(now)
    for start, end in pairwise(starts[1:]):  # the first is only where the walk began
        for now in range(start, end, 10 * MINUTE):
            assert bounds("1d", now, ZoneInfo(zone)) == (start, end)
    assert len(starts) >= 4


@pytest.mark.parametrize(("zone", "shift"), SHIFTS)
def test_hours_start_where_a_walk_along_the_minutes_sees_the_full_hour_or_another_one(zone: str, shift: str) -> None:
    starts = []
    shown = None
    for now in range(int(at(shift)) - 4 * HOUR, int(at(shift)) + 4 * HOUR, MINUTE):
        clock = datetime.fromtimestamp(now, ZoneInfo(zone))
        if clock.minute == 0 or clock.hour != shown:
            starts.append(now)
        shown = clock.hour
    for start, end in pairwise(starts[1:]):
        for now in range(start, end, MINUTE):
            assert bounds("1h", now, ZoneInfo(zone)) == (start, end)
    assert len(starts) >= 7


moments = st.floats(min_value=0, max_value=at("2037-12-01 00:00"), allow_nan=False)
near_shifts = st.tuples(st.sampled_from(SHIFTS), st.floats(-2 * DAY, 2 * DAY)).map(
    lambda drawn: (drawn[0][0], at(drawn[0][1]) + drawn[1])
)


@settings(deadline=None)
@given(per=st.sampled_from(PERIODS), place=st.one_of(st.tuples(st.sampled_from(ZONES), moments), near_shifts))
def test_periods_tile_time(per: str, place: tuple[str, float]) -> None:
    zone, now = ZoneInfo(place[0]), place[1]
    start, end = bounds(per, now, zone)
    assert start <= now < end
    assert bounds(per, start, zone) == (start, end)
    assert bounds(per, end - 0.001, zone) == (start, end)
    assert bounds(per, end, zone)[0] == end
    assert bounds(per, start - 0.001, zone)[1] == start


@settings(deadline=None)
@given(now=moments, zone=st.sampled_from(ZONES))
def test_days_weeks_and_months_start_on_the_dates_they_should(now: float, zone: str) -> None:
    month, week = bounds("month", now, ZoneInfo(zone))[0], bounds("1w", now, ZoneInfo(zone))[0]
    assert datetime.fromtimestamp(month, ZoneInfo(zone)).day == 1
    assert datetime.fromtimestamp(week, ZoneInfo(zone)).isoweekday() == 1
    assert bounds("1d", month, ZoneInfo(zone))[0] == month
    assert bounds("1d", week, ZoneInfo(zone))[0] == week


def test_a_fixed_offset_is_a_zone_too() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert bounds("1d", at("2026-01-12 12:00"), zone) == (at("2026-01-11 18:30"), at("2026-01-12 18:30"))


@pytest.mark.parametrize(
    ("per", "length"),
    [("1s", 1), ("90s", 90), ("1m", 60), ("5h", 18_000), ("1d", 86_400), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_spans_in_seconds(per: str, length: float) -> None:
    assert seconds(per) == length


@pytest.mark.parametrize("per", ["month", "", "5", "h", "0s", "-1h", "1.5h", "1h30m", "1y", " 1h", "1h\n", "٣h"])
def test_what_has_no_fixed_length_is_refused(per: str) -> None:
    with pytest.raises(ValueError, match="no span of fixed length"):
        seconds(per)


@pytest.mark.parametrize("per", ["5h", "2d", "week", ""])
def test_what_no_calendar_shows_is_refused(per: str) -> None:
    with pytest.raises(ValueError, match="no calendar period"):
        bounds(per, 0.0, UTC)
