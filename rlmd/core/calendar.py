"""Calendars: where local hours, days, weeks and months start and end, and how long spans are.

Pure arithmetic on epoch seconds. It knows nothing of limits or of what is counted. Starts and ends are whole
seconds, because every zone shifts its clocks at one.

Periods of one kind tile time: each instant belongs to exactly one, which ends where the next one starts. Two
datetimes of one zone are never subtracted here: that ignores shifts and says 24 h for every day.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

HOUR = 3600

_SPAN = re.compile(r"([1-9][0-9]*)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": HOUR, "d": 24 * HOUR, "w": 7 * 24 * HOUR}

# From the first day of a period, this far is always inside the next one.
_STRIDES = {"1d": timedelta(days=1), "1w": timedelta(days=7), "month": timedelta(days=31)}


def seconds(per: str) -> float:
    """Return the length of a span such as `"90s"`, `"5h"`, `"2w"`; a month has none: ValueError."""
    match = _SPAN.fullmatch(per)
    if match is None:
        raise ValueError(f"{per!r} is no span of fixed length: write a whole number and one of s, m, h, d, w")
    return float(int(match[1]) * _UNITS[match[2]])


def bounds(per: str, now: float, zone: tzinfo) -> tuple[float, float]:
    """Return start and end (exclusive) of the local hour, day, week from Monday or month that holds `now`.

    `per` is `"1h"`, `"1d"`, `"1w"` or `"month"`.
    """
    second = floor(now)  # datetime would round half a microsecond up, into the next period
    if per == "1h":
        start, end = _hour(second, zone)
    elif per in _STRIDES:
        start, end = _days(per, second, zone)
    else:
        raise ValueError(f'{per!r} is no calendar period: write "1h", "1d", "1w" or "month"')
    return float(start), float(end)


def _days(per: str, now: int, zone: tzinfo) -> tuple[int, int]:
    day = _first_day(per, datetime.fromtimestamp(now, zone).date())
    start = _midnight(day, zone)
    while True:
        day = _first_day(per, day + _STRIDES[per])
        end = _midnight(day, zone)
        if now < end:
            return start, end
        # A shift just after midnight put the clock back to yesterday: today has begun and does not end again.
        start = end


def _first_day(per: str, day: date) -> date:
    """Return the first day of the period that holds `day`."""
    match per:
        case "1w":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case _:
            return day


def _midnight(day: date, zone: tzinfo) -> int:
    """Return the first instant with local date `day` or later: midnight may come twice, or never."""
    midnight = datetime.combine(day, time(), zone)
    first = int(midnight.timestamp())  # of two midnights the first: fold is 0
    if _wall(first, zone) == midnight.replace(tzinfo=UTC).timestamp():
        return first
    # Skipped. Python reads such a time with the old offset, which names an instant after the shift, and where
    # fold is 1 with the new offset, which names one before it (PEP 495).
    return _shift(int(midnight.replace(fold=1).timestamp()), first, zone)


def _hour(now: int, zone: tzinfo) -> tuple[int, int]:
    """Return start and end of the hour that the wall clock shows.

    A new hour starts whenever the clock reads :00 or jumps to another hour. So the hour that comes twice in
    autumn is two windows of an hour each; a shift of half an hour makes one of 30 or of 90 minutes.
    """
    start = now - _wall(now, zone) % HOUR
    end = start + HOUR
    if _offset(start, zone) != _offset(now, zone):
        shift = _shift(start, now, zone)
        start = shift if _strikes(shift, zone) else shift - 1 - _wall(shift - 1, zone) % HOUR
    if _offset(end, zone) != _offset(now, zone):
        shift = _shift(now, end, zone)
        end = shift if _strikes(shift, zone) else shift + HOUR - _wall(shift, zone) % HOUR
    return start, end


def _strikes(shift: int, zone: tzinfo) -> bool:
    """Tell whether the wall clock begins an hour at this instant."""
    before, after = _wall(shift - 1, zone), _wall(shift, zone)
    return after % HOUR == 0 or before // HOUR != after // HOUR


def _shift(before: int, after: int, zone: tzinfo) -> int:
    """Find by bisection the first instant with the offset of `after`; that of `before` is another."""
    offset = _offset(after, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset(at: int, zone: tzinfo) -> int:
    return _wall(at, zone) - at


def _wall(at: int, zone: tzinfo) -> int:
    """Read the local clock, as the epoch seconds at which a clock in UTC reads the same."""
    return int(datetime.fromtimestamp(at, zone).replace(tzinfo=UTC).timestamp())
