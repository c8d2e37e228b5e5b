"""The journal: a commit is one row with all its changes. Folding moves the changes into their tables."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec

from rlmd.core.model import SENSELESS, Kind, Moment, Receipt, Senseless, Spent, Sum
from rlmd.store.recovery import blob

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rlmd.core.model import FactKind

    Used = tuple[int, str, str, str]
    """Start of a quarter hour, provider, model, and the column of `usage` that something is to be added to."""

QUARTER = 900
"""Seconds by which usage is kept: in every zone, hours and days begin with one of these quarters of an hour."""

_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, array_like=True):
    """One commit."""

    facts: list[tuple[str, str, msgspec.Raw]]
    receipts: dict[str, Receipt]
    events: list[tuple[Moment, msgspec.Raw]]
    usage: list[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**53)], str, str, Spent | Kind, Sum]]


_entry = msgspec.json.Decoder(Entry)


def written(
    facts: Mapping[tuple[FactKind, str], Callable[[], object]],
    receipts: Mapping[str, Receipt],
    events: Iterable[tuple[float, object]],
    usage: Mapping[Used, float],
) -> bytes:
    """Encode the changes of a commit as a row; a fact that reads None is to be removed."""
    return _encode(
        (
            [(kind, key, read()) for (kind, key), read in facts.items()],
            receipts,
            events,
            [(*used, amount) for used, amount in usage.items()],
        )
    )


def entries(db: sqlite3.Connection) -> tuple[list[Entry], list[Senseless]]:
    """Read the commits that have not been folded, and the rows that make no sense. Raises `sqlite3.Error`."""
    read, odd = [], []
    for number, found in db.execute("SELECT id, row FROM journal ORDER BY id").fetchall():
        row = blob(found)
        try:
            read.append(_entry.decode(row))
        except SENSELESS as error:
            odd.append(Senseless("journal", (number,), row, error))
    return read, odd


def fold(db: sqlite3.Connection) -> list[Senseless]:
    """Move the changes of all commits into their tables, in one transaction.

    Return the rows that make no sense. They stay in the journal.
    """
    commits, odd = entries(db)
    if not commits:
        return odd
    facts = {(kind, key): bytes(row) for commit in commits for kind, key, row in commit.facts}
    receipts = {lease: receipt for commit in commits for lease, receipt in commit.receipts.items()}
    usage: dict[Used, float] = {}
    for commit in commits:
        for quarter, provider, model, what, amount in commit.usage:
            used = (quarter, provider, model, what)
            usage[used] = usage.get(used, 0) + amount
    with whole(db):
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
        for commit in commits:
            events = ((at, bytes(row)) for at, row in commit.events)
            db.executemany("INSERT INTO event (at, row) VALUES (?, ?)", events)
        for (*place, column), total in usage.items():
            db.execute(
                f"INSERT INTO usage (quarter, provider, model, {column}) VALUES (?, ?, ?, ?) "  # noqa: S608  (a word of the core's)
                f"ON CONFLICT DO UPDATE SET {column} = {column} + excluded.{column}",
                (*place, total),
            )
        db.execute("DELETE FROM journal")
        db.executemany("INSERT INTO journal VALUES (?, ?)", ((*row.key, row.row) for row in odd))
    return odd


@contextmanager
def whole(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one transaction: all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
