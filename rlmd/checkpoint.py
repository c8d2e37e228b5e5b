"""The write-ahead log goes back into the database in a worker thread, away from every answer."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import AbstractContextManager, ExitStack, closing
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
HOLD_AT = 20 * 2**20
"""Bytes of the log at which reports wait for the checkpoint: it is filled faster than the disk takes it."""


class Checkpoints:
    """Keeps the log short. Nothing is synced to the disk on the way of a request."""

    def __init__(self, store: Store, hold: Callable[[], AbstractContextManager[None]]) -> None:
        self._store = store
        self._hold = hold
        """Keeps everybody else from writing."""
        self._wanted = trio.Event()
        self._going_on: ExitStack | None = None
        """Ends with a checkpoint beside which commits go on."""
        self.crowded: Callable[[], None] = _nothing
        """Has our own readers leave, who keep the log from being cut."""

    def want(self, size: int) -> None:
        """Have the log, of so many bytes, checkpointed soon."""
        self._wanted.set()
        if size >= HOLD_AT:
            self._hold_commits()

    async def run(self) -> None:
        """Checkpoint whenever that is wanted, for ever.

        First the bulk, while commits go on; then, while none do, the little that came in the meantime: only a log
        of which nothing is left can begin anew.
        """
        failing = False
        while True:
            await self._wanted.wait()
            try:
                with ExitStack() as self._going_on:
                    await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "PASSIVE"))
                    self._hold_commits()
                    done = await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "TRUNCATE"))
                trouble = "somebody reads the database"
            except sqlite3.Error as error:
                done, trouble = False, str(error)
            finally:
                self._going_on = None
            if done:
                self._wanted = trio.Event()
            else:
                if not failing:
                    log.warning("the log of the database cannot be cut now: %s; tried again every second", trouble)
                if self._store.log_size() >= HOLD_AT:
                    self.crowded()
                await trio.sleep(AGAIN)
            failing = not done

    def _hold_commits(self) -> None:
        going_on, self._going_on = self._going_on, None
        if going_on is not None:
            going_on.enter_context(self._hold())


def _nothing() -> None:
    """Nobody reads."""


def _checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as db:
        busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy
