"""The usage history, read by a process of its own: see `rlmd.store.history_reader`.

No decision and no status reads these tables.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from rlmd.core.calendar import bounds
from rlmd.store.journal import QUARTER
from rlmd.wire import messages

if TYPE_CHECKING:
    import subprocess
    from datetime import tzinfo
    from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "rlmd.store.history_reader")
PATIENCE = 5.0
"""Seconds to wait for a checkpoint."""
HOUR = 3600

HISTORIES = 4
"""Queries at a time, each a process with a few of the daemon's descriptors. Other queries wait."""

_some = trio.CapacityLimiter(HISTORIES)
_under_way: set[trio.CancelScope] = set()


async def answer(path: Path, request: messages.HistoryQuery, zone: tzinfo | None, now: float) -> messages.History:
    """Answer a query. Raises `OSError`, `sqlite3.Error`."""
    async with _some:
        first = await trio.to_thread.run_sync(partial(_first, path, request), abandon_on_cancel=True)
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


def _since(request: messages.HistoryQuery) -> float:
    """Return the start of the quarter hour from which a query asks."""
    return request.since.timestamp() // QUARTER * QUARTER if request.since else 0.0


def _first(path: Path, request: messages.HistoryQuery) -> int | None:
    """Return the first quarter hour of a query that has usage."""
    with closing(sqlite3.connect(_database(path), uri=True, timeout=PATIENCE)) as db:
        found = db.execute("SELECT min(quarter) FROM usage WHERE quarter >= ?", (_since(request),)).fetchone()
        first: int | None = found[0]
        return first


def _asked(path: Path, request: messages.HistoryQuery, zone: tzinfo, first: int | None, now: float) -> dict[str, Any]:
    since = request.since.timestamp() if request.since else 0.0
    until = request.until.timestamp() if request.until else now + 1
    days = [] if first is None else _periods("1d", first, until, zone)
    if request.bucket == "hour":
        steps = [step for day in days for step in _by_hour(*day, zone)]
    else:
        steps = [(start, end, end - start) for start, end in days]
    return {
        "database": _database(path),
        "since": since,
        "until": until,
        "provider": request.provider,
        "now": now,
        "steps": [(start, max(start, _since(request)), min(end, until), length) for start, end, length in steps],
    }


def _by_hour(start: int, end: int, zone: tzinfo) -> list[tuple[int, int, int]]:
    """List the steps of a local day's hours: start, end, length of an hour.

    The whole day is one step, unless the clock is moved by less than an hour on that day.
    """
    offsets = {datetime.fromtimestamp(at, zone).utcoffset() for at in (start, end - 1)}
    if len({offset and offset % timedelta(hours=1) for offset in offsets}) == 1:
        return [(start, end, HOUR)]
    return [(begin, stop, stop - begin) for begin, stop in _periods("1h", start, end, zone)]


def _periods(per: str, since: float, until: float, zone: tzinfo) -> list[tuple[int, int]]:
    """List the local days or hours of a span, each by its start and end."""
    periods = []
    while since < until:
        start, end = bounds(per, since, zone)
        periods.append((int(start), int(end)))
        since = end
    return periods


def _reply(request: messages.HistoryQuery, done: subprocess.CompletedProcess[bytes]) -> messages.History:
    from rlmd.store import history_reader  # noqa: PLC0415  (what it loads is of no use to the daemon's start)

    if done.returncode == history_reader.FAILED:
        code, text = msgspec.json.decode(done.stdout, type=tuple[int, str])
        error = sqlite3.DatabaseError(text)
        error.sqlite_errorcode = code
        raise error
    if done.returncode:
        raise OSError(f"the query ended with {done.returncode}")
    gained, _, rows = done.stdout.partition(b"\n")
    kept_going, not_waited = msgspec.json.decode(gained, type=tuple[int, float])
    history: Any = msgspec.Raw(rows)
    return messages.History(
        id=request.id,
        bucket=request.bucket,
        rows=history,
        kept_going=kept_going,
        not_waited_ms=round(not_waited * 1000),
    )
