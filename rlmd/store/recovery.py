"""Recovery from a database that cannot be used: a damaged file is set aside, another file is read from a copy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rlmd.core.model import Senseless

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNREADABLE = (sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError)
"""Exceptions of reading a database; `UnicodeDecodeError` where SQLite's own message is garbage."""
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_LAYOUTS, _VERSIONS = 4, 0xFFFF
"""The newest schema layout of SQLite, and a `user_version` that no schema of ours will ever reach."""
_MEANS_DAMAGE = re.compile(r"Could not decode|no such (table|column)|already exists")
"""Words of errors that mean damage and have no code of their own."""
_PRIMARY = 0xFF
"""The part of an error code that names its family."""


def is_damage(error: BaseException) -> bool:
    """Tell whether an error means that the contents of the file are wrong, which no waiting mends."""
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError) or _MEANS_DAMAGE.search(str(error)):
        return True
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & _PRIMARY in _DAMAGE


def check_head(path: Path) -> None:
    """Raise where the head of the file is damaged in a way that SQLite reports as another fault."""
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        return
    formats, layout, version = head[18:20], int.from_bytes(head[44:48]), int.from_bytes(head[60:64])
    if formats not in {b"\1\1", b"\2\2"} or layout > _LAYOUTS or version > _VERSIONS:
        raise msgspec.DecodeError("the head of the file makes no sense")


def check_table(db: sqlite3.Connection, table: str) -> None:
    """Raise where a table has lost rows unnoticed by SQLite. The check reads the whole table: not for history."""
    (found,) = db.execute(f"PRAGMA quick_check({table})").fetchone()
    if found != "ok":
        raise msgspec.DecodeError(found)


def blob(found: object) -> bytes:
    """Return the bytes of a row. A value of another type becomes its text, which every reader refuses."""
    return found if isinstance(found, bytes) else str(found).encode()


def text(found: bytes) -> str:
    """Decode a text of the database. A damaged letter is replaced, so that the rows after it are still read."""
    return found.decode(errors="replace")


def rows_path(path: Path) -> Path:
    """Return the path of the file for rows that make no sense."""
    return path.with_name(f"{path.name}.set-aside")


def keep_row(path: Path, odd: Senseless) -> Path:
    """Append a row that makes no sense to the file for such rows, as a line of JSON. Raises `OSError`."""
    aside = rows_path(path)
    line = {"table": odd.table, "key": odd.key, "row": text(odd.row), "error": str(odd.error)}
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")
    return aside


def may_pass(error: BaseException) -> bool:
    """Tell whether an error may end by itself: a full or read-only disk, a lock."""
    return isinstance(error, sqlite3.OperationalError) or (isinstance(error, OSError) and error.errno in _PASSING)


def set_aside(path: Path) -> Path:
    """Rename a damaged database and the files that belong to it; return its new path. Nothing is lost."""
    aside = unused(path, "damaged")
    for suffix in ("", "-wal", "-shm"):
        belonging = path.with_name(path.name + suffix)
        if belonging.exists():
            belonging.rename(aside.with_name(aside.name + suffix))
    return aside


def import_path(path: Path) -> Path:
    """Return the path of an import that is to replace the database."""
    return path.with_name(f"{path.name}.import")


def unused(path: Path, why: str) -> Path:
    """Return an unused path beside the database, with today's date."""
    stem = f"{path.name}.{why}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    name, number = stem, 1
    while path.with_name(name).exists():
        number += 1
        name = f"{stem}-{number}"
    return path.with_name(name)


def copy(path: Path) -> sqlite3.Connection:
    """Copy a database and its log into memory: that works on a disk that takes no writes."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    memory.text_factory = text
    if path.exists():
        with TemporaryDirectory(prefix="rlmd-") as elsewhere:
            for suffix in ("", "-wal"):
                belonging = path.with_name(path.name + suffix)
                if belonging.exists():
                    shutil.copyfile(belonging, Path(elsewhere, path.name + suffix))
            with closing(sqlite3.connect(Path(elsewhere, path.name))) as readable:
                readable.backup(memory)
    return memory
