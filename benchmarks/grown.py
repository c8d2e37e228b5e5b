"""States of a daemon that has grown for a long time, and configurations larger than anybody's."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ASKED = "claude-sonnet-4-5"
HOUR = 3600
LIMITS = "hourly_limit = 100_000_000\ndaily_limit = 1_000_000_000\n"


def names_served(providers: int, models: int) -> list[list[str]]:
    """Share names of models out among providers: the first two serve the one that is asked for, each other its part."""
    others = [f"model-{number}" for number in range(models - 1)]
    return [[ASKED], [ASKED], *(others[number :: providers - 2] for number in range(providers - 2))]


def config(providers: int, models: int) -> str:
    """Write a configuration of so many providers and models, each provider with two limits."""
    ids = ["anthropic", "openrouter", *(f"provider-{number}" for number in range(2, providers))]
    return "".join(
        f'[[provider]]\nid = "{name}"\npriority = {priority}\nmodels = {json.dumps(served)}\n{LIMITS}'
        for priority, (name, served) in enumerate(zip(ids, names_served(providers, models), strict=True), 1)
    )


def rows_of_history(database: Path, rows: int) -> None:
    """Write so many rows of usage in the last 90 days into the database of a daemon that has run before."""
    now, hours = int(time.time()) // HOUR * HOUR, 90 * 24 - 1
    found = ((now - n % hours * HOUR, "anthropic", f"model-{n // hours}", 50, 120_000, 1.25) for n in range(rows))
    with closing(sqlite3.connect(database)) as db, db:
        db.executemany(
            "INSERT INTO usage (quarter, provider, model, requests, tokens, cost) VALUES (?, ?, ?, ?, ?, ?)", found
        )
