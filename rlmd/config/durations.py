"""Durations as people write them, "90s", "1h30m", "8d": text to seconds and back.

The finest step is a millisecond. The core never sees these strings, except for a limit's span.
"""

from __future__ import annotations

import re

_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_WRITTEN = re.compile(r"\s*".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*{unit})?" for unit in _MILLISECONDS), re.ASCII)
LONGEST = 36_500 * 86_400.0
"""Seconds of a hundred years: clock arithmetic need take no more."""

_LOOSE = re.compile(r"(\d+(?:[.,]\d+)?)?\s*([a-z]*)[\s,]*(?:and\s)?", re.ASCII)
_SPELLED = {
    "w": ("w", "wk", "week"),
    "d": ("d", "day"),
    "h": ("h", "hr", "hour", "hourly"),
    "m": ("m", "min", "minute"),
    "s": ("s", "sec", "second"),
    "ms": ("ms", "msec", "milli", "millisecond"),
}
_BELOW = {"w": "d", "d": "h", "h": "m", "m": "s"}


def parse(text: str) -> float:
    """Return the seconds in `text`: numbers with w, d, h, m, s or ms, the larger unit first.

    Raises ValueError, with the end of a sentence about `text`, where it is no duration or one over `LONGEST`.
    """
    written = _WRITTEN.fullmatch(text.strip())
    given = {unit: number for unit, number in written.groupdict().items() if number} if written else {}
    if not given:
        meant = nearest(text)
        raise ValueError(
            f'is no number with a unit (did you mean "{meant}"?)'
            if meant
            else 'is no number with a unit, such as "90s" or "1h30m"'
        )
    total = sum(float(number) * _MILLISECONDS[unit] for unit, number in given.items())
    if total > LONGEST * 1000:
        raise ValueError("is more than a hundred years")
    return round(total) / 1000


def nearest(text: str) -> str | None:
    """Return the duration that `text` probably means, well spelled: "1 hour" is 1h, "1h30" is 1h30m, "90" is 90s."""
    rest, total, unit = text.strip().lower(), 0.0, ""
    while rest:
        found = _LOOSE.match(rest)
        if found is None or not (found[1] or found[2]):
            return None
        word = found[2] or _BELOW.get(unit, "s")
        unit = next((unit for unit, words in _SPELLED.items() if word in words or word[:-1] in words), "")
        if not unit:
            return None
        total += float((found[1] or "1").replace(",", ".")) * _MILLISECONDS[unit]
        rest = rest[found.end() :]
    return show(total / 1000) if 0 < total <= LONGEST * 1000 else None


def show(seconds: float) -> str:
    """Return the shortest reading of a duration that is not negative: "90s", "2h", "1h30m", "8d", "2w"."""
    rest = round(seconds * 1000)
    for unit, size in _MILLISECONDS.items():
        # One unit reads best while its number is small: 90s rather than 1m30s, but 2m5s rather than 125s.
        if rest % size == 0 and 0 < rest // size < 100:  # noqa: PLR2004  (a number of two digits)
            return f"{rest // size}{unit}"
    parts = []
    for unit, size in _MILLISECONDS.items():
        # Weeks only where they are exact: 57w1d says less than 400d.
        if unit != "w" and rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return "".join(parts) or "0s"


def span(seconds: float) -> str:
    """Return a whole number of the largest unit that fits: one name for one length, however it was written.

    Raises ValueError where `seconds` are not a whole number of at least one.
    """
    if seconds < 1 or seconds % 1:
        raise ValueError("is no whole number of seconds")
    unit = next(unit for unit, size in _MILLISECONDS.items() if seconds * 1000 % size == 0)
    return f"{int(seconds * 1000) // _MILLISECONDS[unit]}{unit}"
