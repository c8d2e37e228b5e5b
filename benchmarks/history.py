"""What a million rows of history cost: at the start, beside a query, in memory.

    python benchmarks/history.py

Two daemons, one with an empty database, one with a million rows of usage. Compared are the time from the start to the
first answer and the memory after it; and, of the second one, the p99 of acquires while a query over all rows runs in
a loop, with that of acquires while none does. Exit code 1 where a ratio is beyond what is promised.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import psutil

from rlmctl.client import Client, DaemonUnreachableError
from rlmd.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, STARTS, ROUNDS, CALLS = 1_000_000, 9, 9, 3000
START, QUERY, MEMORY = 1.2, 1.5, 4.0
HOUR = 3600
CONFIG = '[[provider]]\nid = "anthropic"\nmodels = ["claude-sonnet-4-5"]\nhourly_limit = 100_000_000\n'
ASKED = {"provider": "anthropic", "model": "claude-sonnet-4-5", "dry_run": True}


def prepare(place: Path, rows: int) -> None:
    """Write a configuration, and a database with so many rows of usage in the last 90 days."""
    place.mkdir(mode=0o700)
    (place / "config.toml").write_text(CONFIG)
    Store(place / "state.db").close()
    now, hours = int(time.time()) // HOUR * HOUR, 90 * 24 - 1
    found = ((now - n % hours * HOUR, "anthropic", f"model-{n // hours}", 50, 120_000, 1.25) for n in range(rows))
    with contextlib.closing(sqlite3.connect(place / "state.db")) as db, db:
        db.executemany(
            "INSERT INTO usage (hour, provider, model, requests, tokens, cost) VALUES (?, ?, ?, ?, ?, ?)", found
        )


@contextlib.contextmanager
def running(place: Path) -> Iterator[tuple[Client, float, float]]:
    """Run a daemon there; give a client, the seconds to its first answer, and its memory in MiB."""
    environ = os.environ | {"RLMD_CONFIG": str(place / "config.toml"), "RLMD_STATE_DIR": str(place)}
    environ.pop("RLMD_SOCKET", None)
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "rlmd"], env=environ, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(DaemonUnreachableError):
                client = Client(place / "rlmd.sock", 60)
                client.request("acquire", **ASKED)
                break
            time.sleep(0.001)
        taken = time.perf_counter() - begun
        with client:
            yield client, taken, psutil.Process(process.pid).memory_info().rss / 2**20
    finally:
        process.terminate()
        process.wait()


def p99(client: Client) -> float:
    """Return the p99 of acquires in microseconds."""
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        client.request("acquire", **ASKED)
        taken.append(time.perf_counter() - begun)
    return quantiles(taken, n=100)[98] * 1e6


def beside_a_query(place: Path, client: Client) -> tuple[float, float, int]:
    """Return the p99 of acquires alone and beside queries, and how many of those there were."""
    asking, enough, answered, at_it = threading.Event(), threading.Event(), 0, threading.Lock()

    def ask() -> None:
        nonlocal answered
        with Client(place / "rlmd.sock", 60) as other:
            while asking.wait() and not enough.is_set():
                with at_it:
                    other.request("history", bucket="day")
                answered += 1

    thread = threading.Thread(target=ask)
    thread.start()
    rounds = []
    for _ in range(ROUNDS):
        asking.clear()
        with at_it:
            alone = p99(client)
        asking.set()
        time.sleep(0.05)
        rounds.append((alone, p99(client)))
    enough.set()
    asking.set()
    thread.join()
    return median(alone for alone, _ in rounds), median(beside for _, beside in rounds), answered


def main() -> int:
    """Print the ratios and a line of JSON."""
    with tempfile.TemporaryDirectory(prefix="rlmd-") as home:
        empty, full = Path(home, "empty"), Path(home, "full")
        prepare(empty, 0)
        prepare(full, ROWS)
        starts = []
        for _ in range(STARTS):
            with running(empty) as (_, few, small), running(full) as (_, many, large):
                starts.append((few, many, small, large))
        few, many, small, large = (median(column) for column in zip(*starts, strict=True))
        with running(full) as (client, _, _):
            alone, beside, answered = beside_a_query(full, client)
    figures = {"start": many / few, "acquire beside a query": beside / alone, "memory in MiB more": large - small}
    print(f"start to first answer: {few * 1e3:.0f} ms empty, {many * 1e3:.0f} ms with {ROWS:,} rows")
    print(f"p99 of an acquire: {alone:.0f} µs alone, {beside:.0f} µs beside a query ({answered} queries)")
    print(f"memory: {small:.1f} MiB empty, {large:.1f} MiB")
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))
    bounds = (START, QUERY, MEMORY)
    return 0 if all(figure <= bound for figure, bound in zip(figures.values(), bounds, strict=True)) else 1


if __name__ == "__main__":
    sys.exit(main())
