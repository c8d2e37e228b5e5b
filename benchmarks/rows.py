"""Databases that have grown for a long time."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600


def rows_of_history(database: Path, rows: int) -> None:
    """Write so many rows of usage in the last 90 days into the database of a daemon that has run before."""
    now, hours = int(time.time()) // HOUR * HOUR, 90 * 24 - 1
    found = ((now - n % hours * HOUR, "anthropic", f"model-{n // hours}", 50, 120_000, 1.25) for n in range(rows))
    with closing(sqlite3.connect(database)) as db, db:
        db.executemany(
            "INSERT INTO usage (hour, provider, model, requests, tokens, cost) VALUES (?, ?, ?, ?, ?, ?)", found
        )
