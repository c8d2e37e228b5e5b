"""What survives: one SQLite file. Schema, migrations, load, commit. It decides nothing and holds no state of ours.

WAL with `synchronous=NORMAL`: a commit survives the death of this process at any moment. A power cut may take
the last commits before it, never the file.

A commit appends one row to the journal, which costs a quarter of what putting everything in its place would.
`fold` does that for many commits at once; opening the file does it for what a kill has left.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from rlmd import rescue
from rlmd.core.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from rlmd.core.model import FactKind

    Used = tuple[int, str, str, str]
    """Hour, provider, model, and the column of `usage` that something is to be added to."""

RECEIPTS_KEPT = 48 * 3600.0
"""Seconds for which a lease's receipt is kept (the policy's 48 h), so that a late duplicate counts once."""
KEPT = 90 * 86400.0
"""Seconds for which events and usage are kept where nobody says otherwise."""
BUSY = 0.02
"""Seconds to wait for a database that somebody else has locked: nobody gets an answer in the meantime."""
PRUNE_STEP = 500
"""Rows removed at a time: pruning never holds up a decision."""
FOLD_AT = 50
"""Commits in the journal after which they are worth folding: that takes half a millisecond, 11 µs a commit. Larger
steps cost as much and hold up answers for longer."""
RECENT = 1000
"""Receipts in the journal, and thereby in memory, after which it is folded however few the commits were."""
CHECKPOINT_AT = 8 * 2**20
"""Bytes of the write-ahead log after which it is worth a checkpoint."""

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
)
"""Numbered from 1; `user_version` is the number of the last one a file has seen."""

_receipt = msgspec.json.Decoder(Receipt)
_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, array_like=True):
    """One commit as the journal keeps it."""

    facts: list[tuple[str, str, msgspec.Raw]]
    receipts: dict[str, Receipt]
    events: list[tuple[float, msgspec.Raw]]
    usage: list[tuple[int, str, str, str, float]]


_entry = msgspec.json.Decoder(Entry)


class StoreError(Exception):
    """The database cannot be used; the message says why and how to mend that."""


class Store:
    """The open database. Its methods raise `sqlite3.Error` when the disk does not do what it should.

    Where the disk fails already when it is opened, what it holds is read from a copy in memory; each commit
    then tries to open the file itself.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by its owner only, and bring its schema up to date.

        A file that is damaged is set aside, and a fresh one begun. Raises `StoreError`; a file of a newer schema
        is then as it was.
        """
        self.path = path
        self.warning: str | None = None
        """What a person has to know about how the file was found."""
        self.away = False
        """The file cannot be opened: this is a copy in memory."""
        self.wal = path.with_name(f"{path.name}-wal")
        self._entries = 0
        self._recent: dict[str, Receipt] = {}
        """Receipts that are in the journal."""
        try:
            self._db = self._opened()
        except (OSError, sqlite3.Error, msgspec.DecodeError) as error:
            self._db = self._in_spite_of(error)

    def _in_spite_of(self, error: Exception) -> sqlite3.Connection:
        """Go on where the file cannot be opened. Raises `StoreError` where not even that can be."""
        try:
            if rescue.is_damage(error):
                self.warning = rescue.set_aside(self.path, error)
                return self._opened()
            if not rescue.may_pass(error):
                raise error
            copy = rescue.copy(self.path)
            self.away = True
            self.warning = f"the state in {self.path} cannot be opened ({error}): deciding from memory until it can"
            _migrate(copy)
            self._fold(copy)
        except (OSError, sqlite3.Error, msgspec.DecodeError) as second:
            raise StoreError(
                f"The state in {self.path} cannot be used: {second}. "
                "Free or repair the disk; or move the file away (rlmd then starts with an empty one)."
            ) from error
        return copy

    def _opened(self) -> sqlite3.Connection:
        self._refuse_newer()
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self.path.chmod(0o600)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA wal_autocheckpoint=0")
            _migrate(db)
            self._fold(db)
        except (sqlite3.Error, msgspec.DecodeError):
            db.close()
            raise
        return db

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

    def begin_afresh(self, error: BaseException) -> None:
        """Set a file aside that turned out to be damaged, and begin a new one. Raises `OSError`, `sqlite3.Error`."""
        self._db.close()
        self.warning = rescue.set_aside(self.path, error)
        self._recent.clear()
        self._entries = 0
        self._db = self._opened()

    def facts(self) -> Iterator[tuple[str, str, bytes]]:
        """Give every fact that has been folded: kind, key, JSON."""
        return iter(self._db.execute("SELECT kind, key, row FROM fact"))

    def fact(self, kind: FactKind, key: str) -> bytes | None:
        """Look up a fact that has been folded."""
        found = self._db.execute("SELECT row FROM fact WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return found[0] if found else None

    def receipt(self, lease: str) -> Receipt | None:
        """Look up what is remembered of a lease."""
        if lease in self._recent:
            return self._recent[lease]
        found = self._db.execute("SELECT row FROM receipt WHERE lease = ?", (lease,)).fetchone()
        return _receipt.decode(found[0]) if found else None

    def events(self, since: float, limit: int) -> list[tuple[float, bytes]]:
        """Give the last events since a time, oldest first."""
        rows = self._db.execute(
            "SELECT at, row FROM event WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit)
        ).fetchall()
        recent = (event for entry in _journal(self._db) for event in entry.events)
        return [*rows[::-1], *((at, bytes(row)) for at, row in recent if at >= since)][-limit:]

    def commit(
        self,
        facts: Mapping[tuple[FactKind, str], Callable[[], object]],
        receipts: Mapping[str, Receipt],
        events: Iterable[tuple[float, object]],
        usage: Mapping[Used, float],
    ) -> None:
        """Make all of this durable in one transaction, or none of it; a fact that reads None is removed."""
        row = _encode(
            (
                [(kind, key, read()) for (kind, key), read in facts.items()],
                receipts,
                events,
                [(*used, amount) for used, amount in usage.items()],
            )
        )
        if self.away:
            fresh = self._opened()
            self._db.close()
            self._db, self.away = fresh, False
        self._db.execute("INSERT INTO journal (row) VALUES (?)", (row,))
        self._recent.update(receipts)
        self._entries += 1

    @property
    def unfolded(self) -> bool:
        """Whether the journal is long enough to be folded."""
        return self._entries >= FOLD_AT or len(self._recent) >= RECENT

    def fold(self) -> None:
        """Put everything in the journal in its place, in one transaction."""
        if self._entries:
            self._fold(self._db)
            self._entries = 0
            self._recent.clear()

    @staticmethod
    def _fold(db: sqlite3.Connection) -> None:
        entries = _journal(db)
        if not entries:
            return
        facts = {(kind, key): bytes(row) for entry in entries for kind, key, row in entry.facts}
        receipts = {lease: receipt for entry in entries for lease, receipt in entry.receipts.items()}
        usage: dict[Used, float] = {}
        for entry in entries:
            for hour, provider, model, what, amount in entry.usage:
                used = (hour, provider, model, what)
                usage[used] = usage.get(used, 0) + amount
        with _whole(db):
            db.executemany(
                "INSERT OR REPLACE INTO fact VALUES (?, ?, ?)",
                ((*name, row) for name, row in facts.items() if row != b"null"),
            )
            db.executemany(
                "DELETE FROM fact WHERE kind = ? AND key = ?",
                (name for name, row in facts.items() if row == b"null"),
            )
            db.executemany(
                "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?)",
                ((lease, receipt.at, _encode(receipt)) for lease, receipt in receipts.items()),
            )
            for entry in entries:
                events = ((at, bytes(row)) for at, row in entry.events)
                db.executemany("INSERT INTO event (at, row) VALUES (?, ?)", events)
            for (*place, column), total in usage.items():
                db.execute(
                    f"INSERT INTO usage (hour, provider, model, {column}) VALUES (?, ?, ?, ?) "  # noqa: S608  (a word of the core's)
                    f"ON CONFLICT DO UPDATE SET {column} = {column} + excluded.{column}",
                    (*place, total),
                )
            db.execute("DELETE FROM journal")

    def long_log(self) -> bool:
        """Whether the write-ahead log is worth a checkpoint."""
        return not self.away and self.wal.exists() and self.wal.stat().st_size >= CHECKPOINT_AT

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
        with _whole(self._db):
            self._db.executemany("INSERT OR REPLACE INTO letter VALUES (?, ?)", written.items())
            self._db.executemany("DELETE FROM letter WHERE id = ?", ((number,) for number in gone))
            self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", told.items())
            self._db.execute("DELETE FROM told WHERE until <= ?", (now,))

    def prune(self, now: float, keep: float = KEPT) -> bool:
        """Remove a few rows that are too old to matter. True where there may be more."""
        removed = 0
        for table, key, time, kept in (
            ("receipt", "lease", "at", RECEIPTS_KEPT),
            ("event", "id", "at", keep),
            ("usage", "hour, provider, model", "hour", keep),
        ):
            removed += self._db.execute(
                f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {time} < ? LIMIT ?)",  # noqa: S608  (names from the lines above)
                (now - kept, PRUNE_STEP),
            ).rowcount
        return removed >= PRUNE_STEP

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        with suppress(sqlite3.Error):
            self.fold()
        self._db.close()


def _journal(db: sqlite3.Connection) -> list[Entry]:
    return [_entry.decode(row) for (row,) in db.execute("SELECT row FROM journal ORDER BY id")]


@contextmanager
def _whole(db: sqlite3.Connection) -> Iterator[None]:
    """Make what is done inside one transaction: all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _migrate(db: sqlite3.Connection) -> None:
    version = _version(db)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        try:
            db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found
