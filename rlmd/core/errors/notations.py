"""How providers write times: spans, dates, epochs. Owns the notations, not what they mean nor which one counts.

One number may be a span or an epoch; its size tells: nobody asks for a wait of thirty years. What ends in more than a
year is a mistake of its writer (an epoch in nanoseconds, the year 9999 for "never"), and is read as nothing.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

from rlmd.core.model import YEAR

_EPOCH_SECONDS = 1e9
"""From here on a bare number is an epoch in seconds (September 2001), below it a span."""
_EPOCH_MILLISECONDS = 1e11
"""From here on it is an epoch in milliseconds (March 1973; in seconds it would be the year 5138)."""
_LONGEST_NOTATION = 64

_UNITS = (
    ("mo", 30 * 86400.0),
    ("ms", 0.001),
    ("mil", 0.001),
    ("m", 60.0),
    ("s", 1.0),
    ("h", 3600.0),
    ("d", 86400.0),
    ("w", 7 * 86400.0),
)
"""First letters of a unit, the longer before the shorter, and its seconds."""

_PART = (
    r"\d{1,12}(?:\.\d{1,12})?\s?"
    r"(?:milliseconds?|msecs?|ms|months?|minutes?|mins?|m|seconds?|secs?|s|hours?|hrs?|h|days?|d|weeks?|w)"
    r"(?![a-z])"
)
_CLOCK = r"\d{1,4}:\d\d:\d\d"
SPAN = rf"(?:{_PART}(?:,?\s?(?:and\s)?{_PART})*|{_CLOCK})"
"""Regular expression of a span in lower-case text: `20ms`, `3h2m`, `19hr`, `1 minute 30 seconds`, `12:03:11`."""
DATE = r"20\d\d-\d\d-\d\d(?:t|,? (?:at )?)\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:\s?(?:z\b|utc|gmt|[+-]\d\d:?\d\d))?"
"""Regular expression of a date with a time in lower-case text: RFC 3339 and what people make of it."""

_SPLIT = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_HTTP_DATE = re.compile(
    # Thu, 24 Sep 2026 15:31:30 GMT; Thursday, 24-Sep-26 15:31:30 GMT; Thu Sep 24 15:31:30 2026
    r"[a-z]{3,9}, (?P<day>\d\d)[ -](?P<month>[a-z]{3})[ -](?P<year>\d\d(?:\d\d)?) (?P<time>\d\d:\d\d:\d\d) gmt"
    r"|[a-z]{3} (?P<month2>[a-z]{3}) (?P<day2>[ \d]\d) (?P<time2>\d\d:\d\d:\d\d) (?P<year2>\d{4})",
)
"""The three that RFC 9110 tells a recipient to read, in lower case."""
_WHOLE_SPAN = re.compile(SPAN)
_DATE_PARTS = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:t|,? (?:at )?)(\d\d:\d\d)(:\d\d)?(?:\.(\d{1,6})\d*)?\s?(z|utc|gmt|[+-]\d\d:?\d\d)?",
)


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def span(text: str) -> float | None:
    """Seconds in a span with units (`6m0s`, `7.66s`, `3 days`); None if that is not what it is."""
    text = text.strip().lower()
    if len(text) > _LONGEST_NOTATION or not _WHOLE_SPAN.fullmatch(text):
        return None
    if ":" in text:
        hours, minutes, seconds = map(float, text.split(":"))
        return hours * 3600 + minutes * 60 + seconds
    return sum(float(count) * _unit(unit) for count, unit in _SPLIT.findall(text))


def _unit(name: str) -> float:
    return next(seconds for start, seconds in _UNITS if name.startswith(start))


def moment(text: str, offset: float = 0.0) -> float | None:
    """Epoch seconds of a written date (RFC 3339, HTTP); `offset` from UTC in seconds holds where it names no zone."""
    text = text.strip().lower()
    if len(text) > _LONGEST_NOTATION:
        return None
    if parts := _DATE_PARTS.fullmatch(text):
        day, minute, second, fraction, zone = parts.groups()
        written = f"{day}T{minute}{second or ':00'}.{fraction or '0':0<6}{_zone(zone)}"
    elif parts := _HTTP_DATE.fullmatch(text):
        day, month, year, time = (parts[name] or parts[f"{name}2"] for name in ("day", "month", "year", "time"))
        if month not in _MONTHS:
            return None
        written = f"{year:0>4}-{_MONTHS.index(month) + 1:02}-{day.strip():0>2}T{time}+00:00"
        if len(year) == 2:  # noqa: PLR2004  (the form of RFC 850; this is no software of the last century)
            written = f"20{written[2:]}"
    else:
        return None
    try:
        when = datetime.fromisoformat(written)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone(timedelta(seconds=offset)))
    return when.timestamp()


def _zone(written: str | None) -> str:
    if written is None:
        return ""
    return "+00:00" if written in {"z", "utc", "gmt"} else written


def ahead(value: object, now: float, offset: float = 0.0) -> float | None:
    """Seconds from `now` to what a provider wrote, in any notation; None if unreadable or not in the coming year."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)[: _LONGEST_NOTATION + 1]
    plain = number(text)
    if plain is None:
        seconds = span(text)
        if seconds is None:
            when = moment(text, offset)
            seconds = None if when is None else when - now
    elif plain >= _EPOCH_MILLISECONDS:
        seconds = plain / 1000 - now
    elif plain >= _EPOCH_SECONDS:
        seconds = plain - now
    else:
        seconds = plain
    return seconds if seconds is not None and is_length(seconds) else None


def is_length(seconds: float) -> bool:
    """Tell whether a wait or a window may be so long: more than nothing, and a year at the most."""
    return 0 < seconds <= YEAR
