"""What survives: one SQLite file. Schema, migrations, load, commit. It decides nothing and holds no state of ours.

WAL with `synchronous=NORMAL`: a commit survives the death of this process at any moment. A power cut may take
the last commits before it, never the file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from rlmd.core.model import FactKind, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

RECEIPTS_KEPT = 48 * 3600.0
"""Seconds for which a lease's receipt is kept (the policy's 48 h), so that a late duplicate counts once."""
EVENTS_KEPT = 90 * 86400.0
BUSY = 0.02
"""Seconds to wait for a database that somebody else has locked: nobody gets an answer in the meantime."""
PRUNE_STEP = 500
"""Rows removed at a time: pruning never holds up a decision."""

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
)
"""Numbered from 1; `user_version` is the number of the last one a file has seen."""

_receipt = msgspec.json.Decoder(Receipt)
_encode = msgspec.json.Encoder().encode


class StoreError(Exception):
    """The database cannot be used; the message says why and how to mend that."""


class Store:
    """The open database. Its methods raise `sqlite3.Error` when the disk does not do what it should."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by its owner only, and bring its schema up to date.

        Raises `StoreError`; a file of a newer schema is then as it was.
        """
        self.path = path
        try:
            self._refuse_newer()
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            path.chmod(0o600)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._migrate()
            except sqlite3.Error:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The state in {path} cannot be used: {error}. "
                "Free or repair the disk; or move the file away (rlmd then starts with an empty one)."
            ) from error

    def _refuse_newer(self) -> None:
        if not self.path.exists():
            return
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=BUSY)) as db:
            version = _version(db)
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer rlmd (schema {version}, this one knows {len(MIGRATIONS)}). "
                "Nothing was changed. Install that version again, or move the file away to start afresh."
            )

    def _migrate(self) -> None:
        version = _version(self._db)
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")

    def facts(self) -> Iterator[tuple[str, str, bytes]]:
        """Give every stored fact: kind, key, JSON."""
        return iter(self._db.execute("SELECT kind, key, row FROM fact"))

    def fact(self, kind: FactKind, key: str) -> bytes | None:
        """Look one fact up."""
        found = self._db.execute("SELECT row FROM fact WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return found[0] if found else None

    def receipt(self, lease: str) -> Receipt | None:
        """Look up what is remembered of a lease."""
        found = self._db.execute("SELECT row FROM receipt WHERE lease = ?", (lease,)).fetchone()
        return _receipt.decode(found[0]) if found else None

    def events(self, since: float, limit: int) -> list[tuple[float, bytes]]:
        """Give the last events since a time, oldest first."""
        rows = self._db.execute(
            "SELECT at, row FROM event WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit)
        ).fetchall()
        return rows[::-1]

    def commit(
        self,
        facts: Mapping[tuple[FactKind, str], Callable[[], object]],
        receipts: Mapping[str, Receipt],
        events: Iterable[tuple[float, bytes]],
    ) -> None:
        """Make all of this durable in one transaction, or none of it; a fact that reads None is removed."""
        execute: Any = self._db.execute
        with self._whole():
            for (kind, key), read in facts.items():
                row = read()
                if row is None:
                    execute("DELETE FROM fact WHERE kind = ? AND key = ?", (kind, key))
                else:
                    execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (kind, key, _encode(row)))
            for lease, receipt in receipts.items():
                execute("INSERT OR REPLACE INTO receipt VALUES (?, ?, ?)", (lease, receipt.at, _encode(receipt)))
            for event in events:
                execute("INSERT INTO event (at, row) VALUES (?, ?)", event)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Make what is done inside one transaction: all of it or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def letters(self) -> list[tuple[int, bytes]]:
        """Give the notifications that wait, oldest first."""
        return self._db.execute("SELECT id, row FROM letter ORDER BY id").fetchall()

    def told(self) -> dict[str, float]:
        """Give the facts that people were told, and until when that holds."""
        return dict(self._db.execute("SELECT fact, until FROM told"))

    def keep_letters(
        self, written: Mapping[int, bytes], gone: Iterable[int], told: Mapping[str, float], now: float
    ) -> None:
        """Keep what notifications wait and what was told, in one transaction; told facts whose time is up go."""
        with self._whole():
            self._db.executemany("INSERT OR REPLACE INTO letter VALUES (?, ?)", written.items())
            self._db.executemany("DELETE FROM letter WHERE id = ?", ((number,) for number in gone))
            self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", told.items())
            self._db.execute("DELETE FROM told WHERE until <= ?", (now,))

    def prune(self, now: float) -> bool:
        """Remove a few rows that are too old to matter. True where there may be more."""
        removed = 0
        for table, key, kept in (("receipt", "lease", RECEIPTS_KEPT), ("event", "id", EVENTS_KEPT)):
            removed += self._db.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE at < ? LIMIT ?)",  # noqa: S608  (names from the line above)
                (now - kept, PRUNE_STEP),
            ).rowcount
        return removed >= PRUNE_STEP

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        self._db.close()


def _version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found
