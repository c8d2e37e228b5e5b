"""The schema of the database: its steps, and which files may be opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec

from rlmd import __version__
from rlmd.store import recovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIGRATIONS = (
    """
    CREATE TABLE fact (kind TEXT NOT NULL, key TEXT NOT NULL, row BLOB NOT NULL, PRIMARY KEY (kind, key))
        WITHOUT ROWID;
    CREATE TABLE receipt (lease TEXT PRIMARY KEY, at REAL NOT NULL, row BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX receipt_at ON receipt (at);
    CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, row BLOB NOT NULL);
    CREATE INDEX event_at ON event (at);
    """,
    """
    CREATE TABLE letter (id INTEGER PRIMARY KEY, row BLOB NOT NULL);
    CREATE TABLE told (fact TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE journal (id INTEGER PRIMARY KEY, row BLOB NOT NULL);
    CREATE TABLE usage (
        hour INTEGER NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
        requests INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0, cost REAL NOT NULL DEFAULT 0,
        switches INTEGER NOT NULL DEFAULT 0, throttle INTEGER NOT NULL DEFAULT 0, quota INTEGER NOT NULL DEFAULT 0,
        credits INTEGER NOT NULL DEFAULT 0, overloaded INTEGER NOT NULL DEFAULT 0,
        transient INTEGER NOT NULL DEFAULT 0, auth INTEGER NOT NULL DEFAULT 0,
        model_missing INTEGER NOT NULL DEFAULT 0, context INTEGER NOT NULL DEFAULT 0,
        client INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (hour, provider, model)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE usage RENAME COLUMN hour TO quarter;
    ALTER TABLE usage ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0;
    """,
)
"""Numbered from 1. `user_version` of a file is the number of its last step."""

WRITTEN_BY = ("setting", "written_by")
"""The fact that holds the version of rlmd whose schema the file has. It is no part of the state."""

_WAL_HEADER, _FRAME_HEADER, _SMALLEST_PAGE = 32, 24, 512
_VERSION_AT = slice(60, 64)
"""Where `user_version` stands in the first page of a database, by SQLite's file format."""


class StoreError(Exception):
    """The database cannot be used; the message says why and how to mend that."""


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database up to date, each step in a transaction of its own. Raises `sqlite3.Error`."""
    version = version_of(db)
    for number in range(version + 1, len(MIGRATIONS) + 1):
        step(db, number)


def step(db: sqlite3.Connection, number: int) -> None:
    """Take one step: from the schema before it to this one."""
    kind, key = WRITTEN_BY
    written = f"INSERT OR REPLACE INTO fact VALUES ('{kind}', '{key}', CAST('\"{__version__}\"' AS BLOB));"  # noqa: S608  (all of it is ours)
    try:
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number - 1]} {written} PRAGMA user_version = {number}; COMMIT;")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def version_of(db: sqlite3.Connection) -> int:
    """Tell the number of a database's schema."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def refuse_newer(path: Path) -> None:
    """Raise `StoreError` where the file is of a schema that this rlmd does not know.

    SQLite does not open such a file: that would change the files beside it. Raises `OSError`, `recovery.UNREADABLE`.
    """
    if path.exists():
        recovery.check_head(path)
    if max(_versions(path), default=0) <= len(MIGRATIONS):
        return
    with closing(recovery.copy(path)) as db:  # a page in the log may never have been committed
        version = version_of(db)
        if version <= len(MIGRATIONS):
            return
        needed = "that version"
        with suppress(sqlite3.Error, msgspec.DecodeError, TypeError):  # a later schema may have no such row
            (by,) = db.execute("SELECT row FROM fact WHERE kind = ? AND key = ?", WRITTEN_BY).fetchone()
            needed = f"rlmd {msgspec.json.decode(by)} or newer"
    raise StoreError(
        f"{path} was written by a newer rlmd (schema {version}, this one knows {len(MIGRATIONS)}). "
        f"Nothing was changed. Install {needed} again, or move the file away to start afresh."
    )


def _versions(path: Path) -> Iterator[int]:
    """Yield `user_version` of every copy of the first page: in the file, and in the write-ahead log."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        page = file.read(_VERSION_AT.stop)
        if page.startswith(b"SQLite format 3"):
            yield int.from_bytes(page[_VERSION_AT])
    with suppress(FileNotFoundError), path.with_name(f"{path.name}-wal").open("rb") as log:
        size = int.from_bytes(log.read(_WAL_HEADER)[8:12])
        if size < _SMALLEST_PAGE:
            return
        for at in range(_WAL_HEADER, os.fstat(log.fileno()).st_size, _FRAME_HEADER + size):
            frame = os.pread(log.fileno(), _FRAME_HEADER + _VERSION_AT.stop, at)
            if int.from_bytes(frame[:4]) == 1:
                yield int.from_bytes(frame[_FRAME_HEADER:][_VERSION_AT])
