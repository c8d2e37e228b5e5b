"""The state on the disk: one SQLite file. Load, commit, prune. The store decides nothing.

WAL with `synchronous=NORMAL`: a commit survives the death of this process at any moment. A power cut may take
the last commits before it, never the file.

A commit appends one row to the journal, which costs a quarter of what putting everything in its place would.
`fold` does that for many commits at once; opening the file does it for what a kill has left.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from rlmd.core.model import SENSELESS, Receipt, Senseless
from rlmd.store import journal, recovery
from rlmd.store.migrations import WRITTEN_BY, StoreError, migrate, refuse_newer
from rlmd.store.queued import QueuedMessage
from rlmd.store.recovery import UNREADABLE, blob
from rlmd.store.salvage import salvage
from rlmd.wire.messages import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from rlmd.core.model import FactKind
    from rlmd.store.journal import Used

log = logging.getLogger(__name__)

RECEIPTS_KEPT = 48 * 3600.0
"""Seconds for which a lease's receipt is kept, so that a late duplicate counts once."""
KEPT = 90 * 86400.0
"""Seconds for which events and usage are kept by default."""
BUSY = 0.02
"""Seconds to wait for a database that another process has locked: no client gets a reply in the meantime."""
PRUNE_STEP = 500
"""Rows removed at a time, so that pruning delays no decision."""
FOLD_AT = 200
"""Commits in the journal after which they are folded. That takes 11 µs a commit in steps of any size; by this one, one
answer in 400 waits for two milliseconds, where a step of 50 has one in 100 wait for half of one."""
RECENT = 1000
"""Receipts in the journal, and so in memory, after which the journal is folded however few its commits are."""
CHECKPOINT_AT = 8 * 2**20
"""Bytes of the write-ahead log from which it is worth a checkpoint."""
LOG_MOST = 32 * 2**20
"""Bytes of the write-ahead log from which nothing is written until a checkpoint. A long read by another process can put
the checkpoint off. The log is looked at now and then: it stays below 64 MiB."""

KEYS = {
    "fact": ("kind", "key"),
    "receipt": ("lease",),
    "event": ("id",),
    "letter": ("id",),
    "journal": ("id",),
}
"""Tables whose rows are JSON, with the columns of their keys."""

_receipt = msgspec.json.Decoder(Receipt)
_event = msgspec.json.Decoder(Event)
_letter = msgspec.json.Decoder(QueuedMessage)
T = TypeVar("T")
V = TypeVar("V")


class Store:
    """The open database.

    Its methods raise `recovery.UNREADABLE`: `sqlite3.Error` where the disk fails, the others where the file makes no
    sense. A row that makes no sense is set aside alone.

    Every query is fetched whole: a half-read query would outlive `close`, and SQLite's cleaning up after the last user
    of a file would then hit the next file of that name.

    Where the file cannot be opened, the store works on a copy in memory; each commit then tries to open the file.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by its owner only, and bring its schema up to date.

        A file that is damaged is set aside, and a fresh one begun. Raises `StoreError`; a file of a newer schema
        is then as it was.
        """
        self.path = path
        self.warning: str | None = None
        """A sentence for a person, where the file was found damaged or cannot be opened."""
        self.paused = False
        """A checkpoint truncates the log: nothing is committed until the checkpoint ends."""
        self.away = False
        """The file cannot be opened: this is a copy in memory."""
        self.wal = path.with_name(f"{path.name}-wal")
        self._log = 0
        """Bytes of the write-ahead log at the last look."""
        self._entries = 0
        """Commits in the journal."""
        self._recent: dict[str, Receipt] = {}
        """Receipts that are in the journal."""
        try:
            self._db = self._opened()
        except (OSError, *UNREADABLE) as error:
            self._db = self._in_spite_of(error)

    def _in_spite_of(self, error: Exception) -> sqlite3.Connection:
        """Begin afresh where the file is damaged, else copy it into memory. Raises `StoreError` where both fail."""
        try:
            if recovery.is_damage(error):
                return self._fresh(error)
            if not recovery.may_pass(error):
                raise error
            copy = recovery.copy(self.path)
            self.away = True
            self.warning = f"the state in {self.path} cannot be opened ({error}): deciding from memory until it can"
            migrate(copy)
            self._set_aside(copy, journal.fold(copy))
        except (OSError, *UNREADABLE) as second:
            raise StoreError(
                f"The state in {self.path} cannot be used: {second}. "
                "Free or repair the disk; or move the file away (rlmd then starts with an empty one)."
            ) from error
        return copy

    def _opened(self) -> sqlite3.Connection:
        refuse_newer(self.path)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self.path.chmod(0o600)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY)
        try:
            db.text_factory = recovery.text
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA wal_autocheckpoint=0")
            migrate(db)
            for table in ("fact", "journal"):
                recovery.check_table(db, table)
            self._set_aside(db, journal.fold(db))
        except UNREADABLE:
            db.close()
            raise
        return db

    def begin_afresh(self, error: BaseException) -> None:
        """Set a damaged file aside, and begin a new one.

        Where that fails, each commit tries again. Raises `OSError`, `sqlite3.Error`.
        """
        self._db.close()
        self._db, self.away = sqlite3.connect(":memory:", isolation_level=None), True
        migrate(self._db)
        self._forget_journal()
        self._db, self.away = self._fresh(error), False

    def _fresh(self, error: BaseException) -> sqlite3.Connection:
        """Set the file aside and begin a new one with what can be read of it."""
        aside = recovery.set_aside(self.path)
        self.warning = (
            f"the state in {self.path} was damaged ({error}): it is kept as {aside.name}, and a fresh one is begun "
            "with what could be read of it"
        )
        db = self._opened()
        salvage(aside, db)
        return db

    def _return(self) -> None:
        """Go back from memory to the file."""
        fresh = self._opened()
        self._db.close()
        self._db, self.away = fresh, False

    def facts(self) -> list[tuple[str, str, bytes]]:
        """Give every fact that has been folded: kind, key, JSON."""
        found = self._db.execute("SELECT kind, key, row FROM fact WHERE (kind, key) != (?, ?)", WRITTEN_BY).fetchall()
        return [(str(kind), str(key), blob(row)) for kind, key, row in found]

    def fact(self, kind: FactKind, key: str) -> bytes | None:
        """Look up a fact that has been folded."""
        found = self._db.execute("SELECT row FROM fact WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return blob(found[0]) if found else None

    def receipt(self, lease: str) -> Receipt | None:
        """Look up the receipt of a lease."""
        if lease in self._recent:
            return self._recent[lease]
        found = self._db.execute("SELECT row FROM receipt WHERE lease = ?", (lease,)).fetchone()
        if found is None:
            return None
        return self._sound("receipt", [(lease, found[0])], _receipt).get(lease)

    def events(self, since: float, limit: int) -> list[Event]:
        """Give the last events since a time, oldest first."""
        rows = self._db.execute(
            "SELECT id, row FROM event WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit)
        ).fetchall()
        folded = self._sound("event", rows[::-1], _event).values()
        commits, _ = journal.entries(self._db)
        recent = (event for commit in commits for at, event in commit.events if at >= since)
        return [*folded, *map(_event.decode, recent)][-limit:]

    def _sound(self, table: str, rows: Iterable[tuple[T, object]], decoder: msgspec.json.Decoder[V]) -> dict[T, V]:
        """Read rows by their keys. A row that makes no sense is set aside."""
        read, odd = {}, []
        for key, found in rows:
            try:
                read[key] = decoder.decode(blob(found))
            except SENSELESS as error:
                odd.append(Senseless(table, (key,), blob(found), error))
        self.set_aside(odd)
        return read

    def set_aside(self, odd: Iterable[Senseless]) -> None:
        """Keep rows that make no sense in a file of their own, and take them out of the database."""
        self._set_aside(self._db, odd)

    def _set_aside(self, db: sqlite3.Connection, odd: Iterable[Senseless]) -> None:
        for row in odd:
            what = f"{' '.join(map(str, row.key))} in the table {row.table}"
            try:
                kept = recovery.keep_row(self.path, row)
                keys = " AND ".join(f"{column} = ?" for column in KEYS[row.table])
                db.execute(f"DELETE FROM {row.table} WHERE {keys}", row.key)  # noqa: S608  (names from the lines above)
            except (OSError, sqlite3.Error) as error:
                log.warning("the state of %s makes no sense (%s) and is passed over: %s", what, row.error, error)
            else:
                log.warning("the state of %s makes no sense (%s): that row alone is now in %s", what, row.error, kept)

    def commit(
        self,
        facts: Mapping[tuple[FactKind, str], Callable[[], object]],
        receipts: Mapping[str, Receipt],
        events: Iterable[tuple[float, object]],
        usage: Mapping[Used, float],
    ) -> None:
        """Make all of this durable in one transaction, or none of it; a fact that reads None is removed."""
        row = journal.written(facts, receipts, events, usage)
        if self.away:
            self._return()
        if self._log >= LOG_MOST:
            self._need_room()
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
            odd = journal.fold(self._db)
            self._forget_journal()
            self.set_aside(odd)

    def _forget_journal(self) -> None:
        self._entries = 0
        self._recent.clear()

    def log_size(self) -> int:
        """Look how many bytes the write-ahead log has."""
        self._log = self.wal.stat().st_size if not self.away and self.wal.exists() else 0
        return self._log

    def _need_room(self) -> None:
        if self.log_size() >= LOG_MOST:
            raise sqlite3.OperationalError(
                f"another process keeps a long read open on {self.path}; the write-ahead log {self.wal.name} is full "
                f"until that read ends; to find the process: fuser {self.path}"
            )

    def queued(self) -> dict[int, QueuedMessage]:
        """Give the notifications that wait, by number, oldest first."""
        found = self._db.execute("SELECT id, row FROM letter ORDER BY id").fetchall()
        return self._sound("letter", found, _letter)

    def told(self) -> dict[str, float]:
        """Give the facts that people were told, each with the time until which it is not told again."""
        return dict(self._db.execute("SELECT fact, until FROM told WHERE typeof(until) = 'real'").fetchall())

    def keep_queued(
        self, written: Mapping[int, bytes], gone: Iterable[int], told: Mapping[str, float], now: float
    ) -> None:
        """Keep queued messages and told facts, in one transaction; told facts whose time is up are removed."""
        self._need_room()
        with journal.whole(self._db):
            self._db.executemany("INSERT OR REPLACE INTO letter VALUES (?, ?)", written.items())
            self._db.executemany("DELETE FROM letter WHERE id = ?", ((number,) for number in gone))
            self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", told.items())
            self._db.execute("DELETE FROM told WHERE until <= ?", (now,))

    def prune(self, now: float, keep: float = KEPT) -> bool:
        """Remove a few rows that are too old to matter. True where there may be more."""
        self._need_room()
        removed = 0
        for table, key, time, kept in (
            ("receipt", "lease", "at", RECEIPTS_KEPT),
            ("event", "id", "at", keep),
            ("usage", "quarter, provider, model", "quarter", keep),
        ):
            removed += self._db.execute(
                f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {time} < ? LIMIT ?)",  # noqa: S608  (names from the lines above)
                (now - kept, PRUNE_STEP),
            ).rowcount
        return removed >= PRUNE_STEP

    def replace(self) -> Path:
        """Replace the state by the one at `recovery.import_path`, in one transaction; return where the old one is.

        The last good configuration stays: it belongs to this machine. Raises `OSError`, `recovery.UNREADABLE`.
        """
        fresh = recovery.import_path(self.path)
        self.fold()
        kept = recovery.unused(self.path, "replaced")
        with closing(sqlite3.connect(f"{fresh.as_uri()}?mode=rw", uri=True)) as source:
            source.execute("PRAGMA journal_mode=MEMORY")  # a kill leaves no file beside it
            with source:
                config = ("setting", "config", self.fact("setting", "config"))
                source.execute("INSERT OR REPLACE INTO fact SELECT ?1, ?2, ?3 WHERE ?3 IS NOT NULL", config)
            try:
                self._db.execute("VACUUM INTO ?", (str(kept),))
                kept.chmod(0o600)
                source.backup(self._db, progress=_at_once)
            except BaseException:
                kept.unlink(missing_ok=True)  # the state is unchanged
                raise
        self._forget_journal()
        fresh.unlink()
        return kept

    def close(self) -> None:
        """Fold the journal and close the file."""
        with suppress(*UNREADABLE):
            self.fold()
        self._db.close()


def _at_once(status: int, left: int, pages: int) -> None:
    """End a backup that would wait for another process, perhaps for ever."""
    del left, pages
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise sqlite3.OperationalError("another process is writing to the database")
