"""The whole state as one JSON document, and back.

A document has every row of every table but the journal's, which is folded first, in the columns of docs/state.md; what
is JSON in the database is JSON here. It is read by the schema that it was written by, and then brought up to date like
a file. What belongs to one machine stays there: the last good configuration, with its secrets.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from rlmd import __version__
from rlmd.core.model import SENSELESS, Receipt
from rlmd.core.state import State
from rlmd.store import journal
from rlmd.store.migrations import MIGRATIONS, WRITTEN_BY, migrate, refuse_newer, step, version_of
from rlmd.store.queued import QueuedMessage
from rlmd.store.recovery import blob, text
from rlmd.wire.messages import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = (WRITTEN_BY, ("setting", "config"))
"""Facts that are not part of the state: of the file, of the machine."""
JOURNAL = "journal"
_TYPES: dict[str, type | tuple[type, ...]] = {"TEXT": str, "INTEGER": int, "REAL": (int, float), "BLOB": object}
_ROWS: dict[str, tuple[str, type]] = {
    "receipt": ("lease", Receipt),
    "event": ("id", Event),
    "letter": ("id", QueuedMessage),
}
"""Tables of one kind of row each: what names a row, and what it is."""


class DocumentError(Exception):
    """This is no export, or one of a newer rlmd; the message says what is wrong with it."""


def export(database: Path, left_out: list[str] | None = None) -> Iterator[str]:
    """Yield the lines of the document, as of one moment, whether a daemon runs or not.

    A row that makes no sense is not part of it; `left_out` is then told which. Raises `StoreError`, `sqlite3.Error`.
    """
    refuse_newer(database)
    with TemporaryDirectory(prefix="rlmd-") as place, closing(_database(Path(place, "state.db"))) as copy:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source:
            source.backup(copy)
        migrate(copy)
        journal.fold(copy)
        copy.executemany("DELETE FROM fact WHERE kind = ? AND key = ?", OURS)
        odd = _leave_out(copy)
        if left_out is not None:
            left_out += odd
        yield f'{{\n"rlmd": {json.dumps(__version__)},\n"schema": {version_of(copy)},\n"tables": {{'
        for number, (table, columns) in enumerate(_tables(copy).items()):
            yield f"{',' if number else ''}\n{json.dumps(table)}: ["
            for place_of_row, row in enumerate(copy.execute(f"SELECT * FROM {table}")):  # noqa: S608  (SQLite's word)
                values = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
                yield f"{',' if place_of_row else ''}\n{json.dumps(values, ensure_ascii=False)}"
            yield "]"
        yield "}\n}\n"


def build(document: Any, path: Path) -> list[str]:
    """Write a document as a database; name the rows that make no sense, and are left out.

    Raises `DocumentError`, `OSError`, `sqlite3.Error`.
    """
    match document:
        case {"schema": int(schema), "tables": dict(tables)} if schema > 0:
            pass
        case _:
            raise DocumentError('it is no export: that has a "schema" and "tables"')
    if schema > len(MIGRATIONS):
        raise DocumentError(
            f"it was exported by rlmd {document.get('rlmd', '?')} (schema {schema}, this one knows {len(MIGRATIONS)})"
        )
    with closing(_database(path)) as db:
        for number in range(1, schema + 1):
            step(db, number)
        with journal.whole(db):
            for table, rows in tables.items():
                _fill(db, table, rows)
        migrate(db)
        return _leave_out(db)


def _database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = text
    db.execute("PRAGMA journal_mode=MEMORY")  # nothing is left beside it, whatever ends this process
    return db


def _tables(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """List the tables, and the types of their columns."""
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {
        name: {column: kind for _, column, kind, *_ in db.execute(f"PRAGMA table_info({name})")}
        for name in names
        if name != JOURNAL
    }


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, bytes) else value


def _fill(db: sqlite3.Connection, table: str, rows: Any) -> None:
    known = _tables(db).get(table)
    if known is None or not isinstance(rows, list):
        raise DocumentError(f"its schema has no table {table!r}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not row.keys() <= known.keys():
            raise DocumentError(f"{table}[{number}] has not the columns {', '.join(known)}")
        if (table, row.get("kind"), row.get("key")) in {("fact", *fact) for fact in OURS}:
            continue
        values = [_stored(known[name], value, f"{table}[{number}].{name}") for name, value in row.items()]
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        try:
            db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608  (SQLite's own words)
        except (sqlite3.IntegrityError, OverflowError) as error:
            raise DocumentError(f"{table}[{number}] does not fit: {error}") from None


def _stored(kind: str, value: Any, where: str) -> Any:
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        raise DocumentError(f"{where} is {value!r:.40}, and that is no {kind.lower()}")
    return msgspec.json.encode(value) if kind == "BLOB" else value


def _leave_out(db: sqlite3.Connection) -> list[str]:
    """Remove the rows that the daemon could not read; name each, with what is wrong with it."""
    odd: list[str] = []
    for kind, key, row in db.execute("SELECT kind, key, row FROM fact").fetchall():
        try:
            msgspec.json.decode(blob(row))
            State().restore([(kind, key, blob(row))], inf)
        except SENSELESS as error:
            odd.append(f"fact {kind} {key}: {error}")
            db.execute("DELETE FROM fact WHERE kind = ? AND key = ?", (kind, key))
    for table, (column, type_) in _ROWS.items():
        for key, row in db.execute(f"SELECT {column}, row FROM {table}").fetchall():  # noqa: S608  (names from above)
            try:
                msgspec.json.decode(blob(row), type=type_)
            except SENSELESS as error:
                odd.append(f"{table} {key}: {error}")
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))  # noqa: S608  (names from above)
    return odd
