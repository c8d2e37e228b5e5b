"""When commits wait for the log of the database to be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from rlmd.store.checkpoint import HOLD_AT, Checkpoints
from rlmd.store.database import CHECKPOINT_AT, Store

if TYPE_CHECKING:
    from pathlib import Path


def no_readers() -> None:
    """End no reader."""


def commits_wait(store: Store) -> bool:
    return store.paused


async def test_a_log_that_is_too_long_has_commits_wait_before_the_checkpoint_has_its_turn(tmp_path: Path) -> None:
    store, resumed = Store(tmp_path / "state.db"), trio.Event()
    checkpoints = Checkpoints(store, no_readers)
    checkpoints.request(CHECKPOINT_AT)
    assert not commits_wait(store)
    checkpoints.request(HOLD_AT)
    assert commits_wait(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpoints.run, resumed.set)
        await resumed.wait()
        nursery.cancel_scope.cancel()
    assert not commits_wait(store)


async def test_what_has_waited_may_be_too_much_again(tmp_path: Path) -> None:
    store, first, second = Store(tmp_path / "state.db"), trio.Event(), trio.Event()
    checkpoints = Checkpoints(store, no_readers)

    def on_resumed() -> None:
        assert not commits_wait(store)
        if first.is_set():
            second.set()
        else:
            first.set()
            checkpoints.request(HOLD_AT)

    checkpoints.request(HOLD_AT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpoints.run, on_resumed)
        await first.wait()
        assert commits_wait(store)
        await second.wait()
        nursery.cancel_scope.cancel()
    assert not commits_wait(store)
