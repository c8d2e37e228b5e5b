"""The program that a query of the history runs as: `python -m rlmd.reader`, a request on stdin, the answer on stdout.

A process of its own, at the lowest priority: whatever it reads, it takes neither the daemon's interpreter lock nor a
core from who decides. It imports next to nothing, because it is started for every query.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing, suppress
from typing import Any

from rlmd.gains import read_gains

MOST = 10_000
"""Rows in a reply; where there are more, the newest."""
PATIENCE = 5.0
"""Seconds to wait for whoever checkpoints."""
LOWEST = 19
FAILED = 3
"""Exit code where the database cannot be read; the answer is then SQLite's code and words."""
KINDS = ("throttle", "quota", "credits", "overloaded", "transient", "auth", "model_missing", "context", "client")
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

    `asked` has the database as a URI, `since` and `until` in epoch seconds, `provider` or None, `now`, and `days`, each
    with its start, and from where to where it is asked for, or None for hours.
    """
    asked = {**asked, "days": json.dumps(asked["days"])} if asked["days"] is not None else asked
    source = _BY_HOUR if asked["days"] is None else _BY_DAY
    with closing(sqlite3.connect(asked["database"], uri=True, timeout=PATIENCE)) as db:
        (rows,) = db.execute(_REPLY.format(rows=_ROWS.format(source=source)), asked).fetchone()
        return rows, read_gains(db, asked["since"], asked["until"], asked["provider"], asked["now"])


if __name__ == "__main__":
    sys.exit(main())
