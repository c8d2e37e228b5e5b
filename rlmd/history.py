"""What has been used in the past, read by a process of its own while everything else goes on: see `rlmd.reader`.

Nothing else reads these tables: neither status nor any decision does.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from rlmd import protocol
from rlmd.bounds import HISTORIES
from rlmd.core.calendar import bounds

if TYPE_CHECKING:
    import subprocess
    from datetime import tzinfo
    from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "rlmd.reader")
PATIENCE = 5.0
"""Seconds to wait for whoever checkpoints."""

_some = trio.CapacityLimiter(HISTORIES)
_under_way: set[trio.CancelScope] = set()


async def answer(path: Path, request: protocol.HistoryQuery, zone: tzinfo | None, now: float) -> protocol.History:
    """Answer a query. Raises `OSError`, `sqlite3.Error`."""
    async with _some:
        first = await trio.to_thread.run_sync(partial(_first_hour, path, request), abandon_on_cancel=True)
        asked = msgspec.json.encode(_asked(path, request, zone or UTC, first, now))
        with trio.CancelScope() as scope:
            _under_way.add(scope)
            try:
                done = await trio.run_process(COMMAND, stdin=asked, capture_stdout=True, check=False)
            finally:
                _under_way.discard(scope)
        if scope.cancelled_caught:
            raise sqlite3.OperationalError("the query kept the log of the database from being cut; ask for less of it")
    return _reply(request, done)


def give_way() -> None:
    """End every query that is under way."""
    for scope in _under_way:
        scope.cancel()


def _database(path: Path) -> str:
    return f"{path.as_uri()}?mode=ro"


def _first_hour(path: Path, request: protocol.HistoryQuery) -> int | None:
    since = request.since.timestamp() if request.since else 0.0
    with closing(sqlite3.connect(_database(path), uri=True, timeout=PATIENCE)) as db:
        first: int | None = db.execute("SELECT min(hour) FROM usage WHERE hour >= ?", (since,)).fetchone()[0]
        return first


def _asked(path: Path, request: protocol.HistoryQuery, zone: tzinfo, first: int | None, now: float) -> dict[str, Any]:
    since = request.since.timestamp() if request.since else 0.0
    until = request.until.timestamp() if request.until else now + 1
    days = None
    if request.bucket == "day":
        whole = [] if first is None else _days(first, until, zone)
        days = [(start, max(start, since), min(end, until)) for start, end in whole]
    return {
        "database": _database(path),
        "since": since,
        "until": until,
        "provider": request.provider,
        "now": now,
        "days": days,
    }


def _days(since: float, until: float, zone: tzinfo) -> list[tuple[float, float]]:
    """List the local days of a span, each by its start and end."""
    days = []
    while since < until:
        days.append(bounds("1d", since, zone))
        since = days[-1][1]
    return days


def _reply(request: protocol.HistoryQuery, done: subprocess.CompletedProcess[bytes]) -> protocol.History:
    from rlmd import reader  # noqa: PLC0415  (what it loads is of no use to the daemon's start)

    if done.returncode == reader.FAILED:
        code, text = msgspec.json.decode(done.stdout, type=tuple[int, str])
        error = sqlite3.DatabaseError(text)
        error.sqlite_errorcode = code
        raise error
    if done.returncode:
        raise OSError(f"the query ended with {done.returncode}")
    gained, _, rows = done.stdout.partition(b"\n")
    kept_going, not_waited = msgspec.json.decode(gained, type=tuple[int, float])
    history: Any = msgspec.Raw(rows)
    return protocol.History(
        id=request.id,
        bucket=request.bucket,
        rows=history,
        kept_going=kept_going,
        not_waited_ms=round(not_waited * 1000),
    )
