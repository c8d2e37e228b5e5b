"""Savings by failovers, read from the history: how many failovers there were, and the time that nobody had to wait.

The figures claim no more than is known. A failover is a session's switch away from a provider that could not serve it.
The time saved by a failover begins at the switch. It ends when the provider may serve again, as known at the switch, or
when the provider did so earlier. A further switch of the session before that end saves nothing more. Times of several
sessions at once count once. The future does not count. An hour without any request does not count: nobody was waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

HOUR = 3600

# The time of an event is a text. SQLite counts days from noon in the year 4714 BC; 1970 began at day 2440587.5.
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
# The index leads from one hour to the next: a hundred models have a hundred rows in each hour.
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


class Savings(NamedTuple):
    """The sums over a span of time."""

    kept_going: int
    not_waited: float
    """Seconds."""


class PastEvent(NamedTuple):
    """An event of the history that begins or ends a saving."""

    at: float
    event: str
    provider: str | None
    """The provider that was left, or that may serve again; None: all providers."""
    session: str | None
    until: float | None


def read_savings(db: sqlite3.Connection, since: float, until: float, provider: str | None, now: float) -> Savings:
    """Add up a span of time, for one provider that was left or for all."""
    asked = {"since": since, "until": until, "provider": provider}
    told = (PastEvent(*row) for row in db.execute(_TOLD, asked))
    return add_up(told, {hour for (hour,) in db.execute(_BUSY, asked)}, min(now, until))


def add_up(told: Iterable[PastEvent], busy: set[int], now: float) -> Savings:
    """Add up switches and ends of cooldowns, in their order. `busy` has the starts of the hours with requests."""
    kept_going = 0
    resting: dict[str, list[list[float]]] = {}
    """Provider → its savings under way, each a start and an end."""
    away: dict[str, list[float]] = {}
    """Session → its saving under way."""
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
    return Savings(kept_going, sum(_within(span, busy) for span in _together(spans, now)))


def _together(spans: list[list[float]], now: float) -> Iterator[tuple[float, float]]:
    """Yield the union of the spans, without the future."""
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
