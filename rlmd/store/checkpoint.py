"""Checkpoints: a worker thread copies the write-ahead log into the database, so that no reply waits for the disk."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Literal

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rlmd.store.database import Store

log = logging.getLogger(__name__)

PATIENCE = 0.05
"""Seconds to wait for a reader of the database: pages that are being read cannot be overwritten."""
AGAIN = 1.0
"""Seconds between attempts while a checkpoint fails."""
HOLD_AT = 20 * 2**20
"""Bytes of the log at which commits wait for the checkpoint: the log grows faster than the disk takes it."""


class Checkpoints:
    """Keeps the log short. Nothing is synced to the disk on the way of a request."""

    def __init__(self, store: Store, on_readers_block: Callable[[], None]) -> None:
        self._store = store
        self._on_readers_block = on_readers_block
        """Ends the daemon's own readers of the database: a reader keeps the log from being truncated."""
        self._requested = trio.Event()
        self._under_way = False
        self._failing = False
        """The last checkpoint failed, or the one under way has not succeeded yet."""

    def request(self, size: int) -> None:
        """Have the log, which has `size` bytes, checkpointed soon."""
        self._requested.set()
        if size >= HOLD_AT and (self._under_way or not self._failing):
            self._store.paused = True  # at once: when the checkpoint's turn comes, the log is too long at this rate

    async def run(self, on_resumed: Callable[[], None]) -> None:
        """Checkpoint whenever a checkpoint is wanted, for ever. `on_resumed` is called when commits may go on.

        The bulk of the log is copied while commits go on. The rest is copied while commits are paused: the log can
        begin anew only once all of it has been copied.
        """
        while True:
            await self._requested.wait()
            went_well, self._failing, self._under_way = not self._failing, True, True
            trouble = "somebody reads the database"
            try:
                await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "PASSIVE"))
                self._store.paused = True
                if await trio.to_thread.run_sync(partial(_checkpoint, self._store.path, "TRUNCATE")):
                    self._requested, self._failing = trio.Event(), False  # first: a commit may want the next checkpoint
            except (sqlite3.Error, OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                trouble = str(error)
            finally:
                self._under_way = False
                if self._store.paused:
                    self._store.paused = False
                    on_resumed()
            if self._failing:
                if went_well:
                    log.warning("the log of the database cannot be cut now: %s; tried again every second", trouble)
                if self._store.log_size() >= HOLD_AT:
                    self._on_readers_block()
                await trio.sleep(AGAIN)


def _checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as db:
        busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy
