"""What has been used in the past, read in a worker thread on a connection of its own.

The database itself writes the reply's rows, so that no more than an instant of the query is spent where it would
keep a decision waiting. Nothing else reads these tables: neither status nor any decision does.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from rlmd import protocol
from rlmd.bounds import HISTORIES
from rlmd.core.calendar import bounds
from rlmd.gains import read_gains

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

    from rlmd.gains import Gains

MOST = 10_000
"""Rows in a reply; where there are more, the newest."""
KINDS = ("throttle", "quota", "credits", "overloaded", "transient", "auth", "model_missing", "context", "client")
PATIENCE = 5.0
"""Seconds to wait for whoever checkpoints."""

_ERRORS = ", ".join(f"'{kind}', nullif(sum({kind}), 0)" for kind in KINDS)
_ROWS = f"""
    SELECT start, provider, model, json_object(
        'at', strftime('%Y-%m-%dT%H:%M:%S.000Z', start, 'unixepoch'), 'provider', provider, 'model', model,
        'requests', sum(requests), 'errors', json_patch('{{{{}}}}', json_object({_ERRORS})),
        'tokens', sum(tokens), 'cost', round(sum(cost), 9), 'switches', sum(switches)
    ) AS row
    FROM ({{source}}) GROUP BY start, provider, model ORDER BY start DESC, provider DESC, model DESC LIMIT {MOST}
"""  # noqa: S608  (all of it is written here)
_REPLY = (
    "SELECT CAST(json_group_array(json(row)) AS BLOB) FROM (SELECT row FROM ({rows}) ORDER BY start, provider, model)"
)
_BY_HOUR = """
    SELECT hour AS start, * FROM usage
    WHERE hour >= :since AND hour < :until AND (:provider IS NULL OR provider = :provider)
"""
_BY_DAY = """
    SELECT day.start, usage.* FROM (
        SELECT json_extract(value, '$[0]') AS start, json_extract(value, '$[1]') AS first,
            json_extract(value, '$[2]') AS stop
        FROM json_each(:days) LIMIT -1 OFFSET 0
    ) AS day CROSS JOIN usage ON hour >= day.first AND hour < day.stop
    WHERE (:provider IS NULL OR provider = :provider)
"""
# The inner limit has SQLite read the days once, not for every row.


_some = trio.CapacityLimiter(HISTORIES)


async def answer(path: Path, request: protocol.HistoryQuery, zone: tzinfo | None, now: float) -> protocol.AnyReply:
    """Answer a query while everything else goes on."""
    try:
        rows, gains = await trio.to_thread.run_sync(
            _read, path, request, zone or UTC, now, abandon_on_cancel=True, limiter=_some
        )
    except sqlite3.Error as error:
        return protocol.Error(id=request.id, code="unavailable", message=f"The state cannot be read now: {error}.")
    return protocol.History(
        id=request.id,
        bucket=request.bucket,
        rows=rows,
        kept_going=gains.kept_going,
        not_waited_ms=round(gains.not_waited * 1000),
    )


def _read(path: Path, request: protocol.HistoryQuery, zone: tzinfo, now: float) -> tuple[Any, Gains]:
    asked: dict[str, Any] = {
        "since": request.since.timestamp() if request.since else 0.0,
        "until": request.until.timestamp() if request.until else now + 1,
        "provider": request.provider,
    }
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as db:
        if request.bucket == "day":
            first = db.execute("SELECT min(hour) FROM usage WHERE hour >= :since", asked).fetchone()[0]
            days = [] if first is None else _days(first, asked["until"], zone)
            spans = [(first, max(first, asked["since"]), min(stop, asked["until"])) for first, stop in days]
            asked["days"] = msgspec.json.encode(spans).decode()
        source = _BY_DAY if request.bucket == "day" else _BY_HOUR
        query = _REPLY.format(rows=_ROWS.format(source=source))
        rows = msgspec.Raw(db.execute(query, asked).fetchone()[0])
        return rows, read_gains(db, asked["since"], asked["until"], request.provider, now)


def _days(since: float, until: float, zone: tzinfo) -> list[tuple[float, float]]:
    """List the local days of a span, each by its start and end."""
    days = []
    while since < until:
        days.append(bounds("1d", since, zone))
        since = days[-1][1]
    return days
