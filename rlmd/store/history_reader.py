"""The program that answers a history query: `python -m rlmd.store.history_reader`, request on stdin, answer on stdout.

The program is a process of its own at the lowest priority: a query takes neither the daemon's interpreter lock nor its
core. The program imports next to nothing, because each query starts it.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from rlmd.store.history_savings import read_savings

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 10_000
"""Rows in a reply. Of more rows, the newest are in it."""
PATIENCE = 5.0
"""Seconds to wait for a checkpoint."""
LOWEST = 19
FAILED = 3
"""Exit code where the database cannot be read. The output is then SQLite's code and message."""
KINDS = (
    "throttle",
    "quota",
    "credits",
    "overloaded",
    "transient",
    "unreachable",
    "auth",
    "model_missing",
    "context",
    "client",
)
REST = 2.0
"""Pause between two steps, as a multiple of the time of the step before: two virtual cores are often one real core."""


def _sound(column: str) -> str:
    """Write the SQL for a row's number in a column; 0 where the column has no sound number, as in a damaged row."""
    sound = f"iif(typeof({column}) IN ('integer', 'real') AND abs({column}) <= 1e15, {column}, 0)"
    return sound if column == "cost" else f"CAST({sound} AS INTEGER)"


def _row(at: str, amount: str) -> str:
    """Write the SQL for a row of the reply; `amount` is the template for the number of a column."""

    def number(column: str) -> str:
        return amount.format(_sound(column))

    errors = ", ".join(f"'{kind}', nullif({number(kind)}, 0)" for kind in KINDS)
    return f"""json_object(
        'at', strftime('%Y-%m-%dT%H:%M:%S.000Z', {at}, 'unixepoch'), 'provider', provider, 'model', model,
        'requests', {number("requests")}, 'errors', json_patch('{{}}', json_object({errors})),
        'tokens', {number("tokens")}, 'cost', round({number("cost")}, 9), 'switches', {number("switches")}
    )"""


_STEP = f"""
    SELECT {_row(":start + (quarter - :start) / :length * :length", "sum({})")} FROM usage
    WHERE quarter >= :since AND quarter < :until AND (:provider IS NULL OR provider = :provider)
    GROUP BY (quarter - :start) / :length, provider, model
    ORDER BY (quarter - :start) / :length DESC, provider DESC, model DESC
"""  # noqa: S608  (all of it is written here)


def main() -> int:
    """Answer one request: a line of JSON on what was gained, then the rows."""
    with suppress(OSError):  # a filter of system calls
        os.nice(LOWEST)
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        rows, gained = read(asked)
    except sqlite3.Error as error:
        json.dump([getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR), str(error)], sys.stdout)
        return FAILED
    sys.stdout.buffer.write(json.dumps(gained).encode() + b"\n" + rows)
    return 0


def read(asked: dict[str, Any]) -> tuple[bytes, tuple[int, float]]:
    """Read rows as JSON, and how often work went on and the seconds not waited. Raises `sqlite3.Error`.

    `asked` has the database as a URI, `since` and `until` in epoch seconds, `provider` or None, `now`, and `steps`,
    each with its start, from where to where it is asked for, and the length of its rows.
    """
    with closing(sqlite3.connect(asked["database"], uri=True, timeout=PATIENCE)) as db:
        rows = [row for (row,) in itertools.islice(_newest_first(db, asked), MOST)]
        gained = read_savings(db, asked["since"], asked["until"], asked["provider"], asked["now"])
        return f"[{','.join(reversed(rows))}]".encode(), gained


def _newest_first(db: sqlite3.Connection, asked: dict[str, Any]) -> Iterator[tuple[str]]:
    """Yield the rows, a day a step: no row beyond the limit is read, and the log can be truncated between two steps."""
    for start, since, until, length in reversed(asked["steps"]):
        begun = time.perf_counter()
        step = {"start": start, "since": since, "until": until, "length": length, "provider": asked["provider"]}
        yield from db.execute(_STEP, step).fetchall()
        time.sleep(REST * (time.perf_counter() - begun))


if __name__ == "__main__":
    sys.exit(main())
