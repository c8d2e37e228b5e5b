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

    from rlmd.store.database import Store

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
        self._holding: ExitStack | None = None
        """Keeps commits waiting until the checkpoint is done."""
        self._going_on = False
        self._failing = False
        """The last one, or this one so far."""
        self.crowded: Callable[[], None] = _nothing
        """Has our own readers leave, who keep the log from being cut."""

    def want(self, size: int) -> None:
        """Have the log, of so many bytes, checkpointed soon."""
        self._wanted.set()
        if size >= HOLD_AT and (self._going_on or not self._failing):
            self._hold_commits()  # not when its turn comes: at this rate that is too late

    async def run(self) -> None:
        """Checkpoint whenever that is wanted, for ever.

        First the bulk, while commits go on; then, while none do, the little that came in the meantime: only a log
        of which nothing is left can begin anew.
        """
        while True:
            await self._wanted.wait()
            went_well, self._failing, self._going_on = not self._failing, True, True
            trouble = "somebody reads the database"
            try:
                await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "PASSIVE"))
                self._hold_commits()
                if await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "TRUNCATE")):
                    self._wanted, self._failing = trio.Event(), False  # before commits, which may want the next one
            except (sqlite3.Error, OSError, RuntimeError) as error:  # the last one: no thread can be begun
                trouble = str(error)
            finally:
                self._going_on = False
                self._let_commits()
            if self._failing:
                if went_well:
                    log.warning("the log of the database cannot be cut now: %s; tried again every second", trouble)
                if self._store.log_size() >= HOLD_AT:
                    self.crowded()
                await trio.sleep(AGAIN)

    def _hold_commits(self) -> None:
        if self._holding is None:
            self._holding = ExitStack()
            self._holding.enter_context(self._hold())

    def _let_commits(self) -> None:
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.close()


def _nothing() -> None:
    """Nobody reads."""


def _checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as db:
        busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy
