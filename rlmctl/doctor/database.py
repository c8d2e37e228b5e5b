"""Whether the database is whole and written. It is only read, on a connection of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmd.paths import Paths

NAME = "database"
MOST = 512 * 2**20
"""Bytes: reading a larger file whole would take longer than a person waits."""
PATIENCE = 5.0
"""Seconds to wait for whoever checkpoints."""


def database(paths: Paths, *, durable: bool | None) -> Iterator[Check]:
    """Check the file; `durable` is what the daemon says of its last commit, None where no daemon answers."""
    from rlmd.store import recovery

    wrong = _damage(paths)
    if wrong:
        yield Check(NAME, "wrong", f"{paths.database} is damaged: {wrong}", "rlmctl restart  (it saves what it can)")
    elif durable is False:
        meaning = f"{paths.database} cannot be written: a restart would forget what was counted"
        yield Check(NAME, "wrong", meaning, f"free space on the disk of {paths.state_dir}, then: rlmctl restart")
    elif durable:
        yield Check(NAME, "ok", f"{paths.database} is whole, and written at every report")
    elif paths.database.exists():
        yield Check(NAME, "ok", f"{paths.database} is whole")
    for file in sorted(paths.state_dir.glob(f"{paths.database.name}.damaged-*")):
        if not file.name.endswith(("-wal", "-shm")):
            meaning = f"one was damaged and set aside: {file}"
            yield Check(NAME, "warning", meaning, f"rm {file}*  (once you have no use for it)")
    rows = recovery.rows_path(paths.database)
    if rows.exists():
        meaning = f"rows that made no sense were set aside, all others are kept: {rows}"
        yield Check(NAME, "warning", meaning, f"rm {rows}  (once you have no use for it)")


def _damage(paths: Paths) -> str | None:
    """Return what is wrong inside the file, or None."""
    try:
        if paths.database.stat().st_size > MOST:
            return None
        with closing(sqlite3.connect(f"{paths.database.as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as db:
            said: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        # Of the errors of this kind only these are the file's own fault.
        damaged = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        return str(error) if (error.sqlite_errorcode & 0xFF) in damaged else None
    except OSError:
        return None
    return None if said == "ok" else said.replace("\n", " ")
