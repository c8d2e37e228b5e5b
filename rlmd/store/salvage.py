"""Salvage: the readable rows of a damaged database go into a fresh one, except events and history."""

from __future__ import annotations

from contextlib import closing, suppress
from math import inf
from typing import TYPE_CHECKING

import msgspec

from rlmd.core.model import SENSELESS, Receipt
from rlmd.core.state import State
from rlmd.store import journal, recovery

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


def _is_fact(row: tuple[str, str, bytes]) -> None:
    State().restore([(*row[:2], recovery.blob(row[2]))], inf)


def _is_receipt(row: tuple[str, float, bytes]) -> None:
    msgspec.json.decode(recovery.blob(row[2]), type=Receipt)


def _is_commit(row: tuple[int, bytes]) -> None:
    msgspec.json.decode(recovery.blob(row[1]), type=journal.Entry)


TABLES: dict[str, Callable[..., None]] = {"fact": _is_fact, "receipt": _is_receipt, "journal": _is_commit}
"""What is taken over, and what raises where a row makes no sense."""


def salvage(damaged: Path, fresh: sqlite3.Connection) -> None:
    """Copy the rows that make sense. Raises `sqlite3.Error` where the fresh database takes no rows."""
    found: dict[str, list[Sequence[object]]] = {}
    with suppress(OSError, *recovery.UNREADABLE), closing(recovery.copy(damaged)) as db:
        found = {table: list(_sound(db, table)) for table in TABLES}
    with journal.whole(fresh):
        for table, rows in found.items():
            if not rows:
                continue
            places = ", ".join("?" * len(rows[0]))
            fresh.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", rows)  # noqa: S608  (names from above)
    journal.fold(fresh)


def _sound(db: sqlite3.Connection, table: str) -> Iterator[Sequence[object]]:
    with suppress(*recovery.UNREADABLE):
        for row in db.execute(f"SELECT * FROM {table}"):  # noqa: S608  (a name from above)
            with suppress(*SENSELESS, TypeError):
                TABLES[table](row)
                yield row
