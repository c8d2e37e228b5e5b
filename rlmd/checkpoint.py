"""The write-ahead log goes back into the database in a worker thread, away from every answer."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TYPE_CHECKING, Literal

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rlmd.store import Store

log = logging.getLogger(__name__)

PATIENCE = 0.05
"""Seconds to wait for somebody who reads the database: what they read cannot be overwritten."""
AGAIN = 1.0
"""Seconds between attempts."""


class Checkpoints:
    """Keeps the log short. Nothing is synced to the disk on the way of a request."""

    def __init__(self, store: Store, hold: Callable[[], AbstractContextManager[None]]) -> None:
        self._store = store
        self._hold = hold
        """Keeps everybody else from writing."""
        self._wanted = trio.Event()

    def want(self) -> None:
        """Have the log checkpointed soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Checkpoint whenever that is wanted, for ever.

        First the bulk, while commits go on; then, while none do, the little that came in the meantime: only a log
        of which nothing is left can begin anew.
        """
        while True:
            await self._wanted.wait()
            try:
                await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "PASSIVE"))
                with self._hold():
                    done = await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "TRUNCATE"))
            except sqlite3.Error as error:
                log.warning("the log of the database cannot be checkpointed now: %s", error)
                done = False
            if done:
                self._wanted = trio.Event()
            else:
                await trio.sleep(AGAIN)


def _checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as db:
        busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy
