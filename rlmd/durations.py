"""Durations as people write them, "90s", "1h30m", "8d": text to seconds and back.

The finest step is a millisecond. The core never sees these strings, except for a limit's span.
"""

from __future__ import annotations

import re

_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_WRITTEN = re.compile(r"\s*".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*{unit})?" for unit in _MILLISECONDS), re.ASCII)
LONGEST = 36_500 * 86_400.0
"""Seconds of a hundred years: clock arithmetic need take no more."""


def parse(text: str) -> float:
    """Return the seconds in `text`: numbers with w, d, h, m, s or ms, the larger unit first.

    Raises ValueError, with the end of a sentence about `text`, where it is no duration or one over `LONGEST`.
    """
    written = _WRITTEN.fullmatch(text.strip())
    given = {unit: number for unit, number in written.groupdict().items() if number} if written else {}
    if not given:
        raise ValueError('is no number with a unit, such as "90s" or "1h30m"')
    total = sum(float(number) * _MILLISECONDS[unit] for unit, number in given.items())
    if total > LONGEST * 1000:
        raise ValueError("is more than a hundred years")
    return round(total) / 1000


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
