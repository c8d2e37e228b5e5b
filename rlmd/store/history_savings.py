"""What was gained by switching: how often work went on, and what nobody had to wait for. Read from the history.

It claims no more than is known. Work went on where a session was led away from a provider that could not serve it.
What was not waited is the time from there until that provider was to serve again, as it was known at the switch, or
until it did earlier; a session that is led on before that gains nothing more. Sessions side by side count once, the
future does not count, and neither does an hour in which no request was made at all: nobody was waiting then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

HOUR = 3600

# A time is a text in an event; SQLite counts days from noon in the year 4714 before ours, and 1970 began at 2440587.5.
_TOLD = """
    SELECT at, json_extract(told, '$.event'), json_extract(told, '$.provider'), json_extract(told, '$.session'),
        (julianday(json_extract(told, '$.until')) - 2440587.5) * 86400
    FROM (SELECT id, at, CAST(row AS TEXT) AS told FROM event WHERE at >= :since AND at < :until)
    WHERE CASE json_extract(told, '$.event')
        WHEN 'switched' THEN json_extract(told, '$.until') IS NOT NULL
            AND (:provider IS NULL OR json_extract(told, '$.provider') = :provider)
        WHEN 'state' THEN json_extract(told, '$.reason') = 'closed'
        ELSE json_extract(told, '$.event') IN ('recovered', 'reset')
    END
    ORDER BY id
"""
# From one hour to the next by the index: a hundred models have a hundred rows in each.
_BUSY = """
    WITH RECURSIVE known (hour) AS (
        SELECT min(quarter) / 3600 * 3600 FROM usage WHERE quarter > :since - 3600
        UNION ALL
        SELECT (SELECT min(quarter) / 3600 * 3600 FROM usage WHERE quarter >= hour + 3600)
        FROM known WHERE hour < :until
    )
    SELECT hour FROM known
    WHERE hour < :until
        AND EXISTS (SELECT 1 FROM usage WHERE quarter >= hour AND quarter < hour + 3600 AND requests > 0)
"""


class Gains(NamedTuple):
    """What switching gained."""

    kept_going: int
    not_waited: float
    """Seconds."""


class Told(NamedTuple):
    """An event as far as it matters here."""

    at: float
    event: str
    provider: str | None
    """Who was left, or may serve again; None: all of them."""
    session: str | None
    until: float | None


def read_gains(db: sqlite3.Connection, since: float, until: float, provider: str | None, now: float) -> Gains:
    """Add up a span of time, of one provider that was left or of all."""
    asked = {"since": since, "until": until, "provider": provider}
    told = (Told(*row) for row in db.execute(_TOLD, asked))
    return add_up(told, {hour for (hour,) in db.execute(_BUSY, asked)}, min(now, until))


def add_up(told: Iterable[Told], busy: set[int], now: float) -> Gains:
    """Add up switches and ends of rests, in their order. `busy` are the hours, by their start, that had requests."""
    kept_going = 0
    resting: dict[str, list[list[float]]] = {}
    """By provider, what is being gained: from, until."""
    away: dict[str, list[float]] = {}
    """By session, what it gains."""
    spans: list[list[float]] = []
    for event in told:
        if event.event != "switched" or event.until is None:
            for provider in [event.provider] if event.provider else list(resting):
                for span in resting.pop(provider, ()):
                    span[1] = min(span[1], event.at)
            continue
        kept_going += 1
        session = event.session or ""
        if session not in away or away[session][1] <= event.at:
            away[session] = span = [event.at, max(event.at, event.until)]
            spans.append(span)
            resting.setdefault(event.provider or "", []).append(span)
    return Gains(kept_going, sum(_within(span, busy) for span in _together(spans, now)))


def _together(spans: list[list[float]], now: float) -> Iterator[tuple[float, float]]:
    """Yield what the spans cover, each moment once and none of the future."""
    covered = float("-inf")
    for since, until in sorted(spans):
        start, end = max(since, covered), min(until, now)
        if start < end:
            yield start, end
            covered = end


def _within(span: tuple[float, float], busy: set[int]) -> float:
    """Return the seconds of a span that lie in busy hours."""
    since, until = span
    hours = range(int(since) // HOUR * HOUR, int(until) + 1, HOUR)
    return sum(max(0.0, min(until, hour + HOUR) - max(since, hour)) for hour in hours if hour in busy)
