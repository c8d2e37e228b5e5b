"""When commits wait for the log of the database to be cut."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from rlmd.store.checkpoint import HOLD_AT, Checkpoints
from rlmd.store.database import CHECKPOINT_AT, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Commits:
    """What has commits wait, and tells when they go on."""

    def __init__(self) -> None:
        self._held = False
        self.go_on = trio.Event()
        self.then: Callable[[], None] = lambda: None
        """What the first commits that had to wait lead to."""

    def wait(self) -> bool:
        return self._held

    @contextmanager
    def hold(self) -> Iterator[None]:
        assert not self._held
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self.go_on.set()
            self.then()


async def test_a_log_that_is_too_long_has_commits_wait_before_the_checkpoint_has_its_turn(tmp_path: Path) -> None:
    commits = Commits()
    checkpoints = Checkpoints(Store(tmp_path / "state.db"), commits.hold)
    checkpoints.want(CHECKPOINT_AT)
    assert not commits.wait()
    checkpoints.want(HOLD_AT)
    assert commits.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpoints.run)
        await commits.go_on.wait()
        nursery.cancel_scope.cancel()
    assert not commits.wait()


async def test_what_has_waited_may_be_too_much_again(tmp_path: Path) -> None:
    commits = Commits()
    checkpoints = Checkpoints(Store(tmp_path / "state.db"), commits.hold)

    def again() -> None:
        commits.go_on, commits.then = trio.Event(), lambda: None
        checkpoints.want(HOLD_AT)

    commits.then = again
    checkpoints.want(HOLD_AT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpoints.run)
        first = commits.go_on
        await first.wait()
        assert commits.wait()
        await commits.go_on.wait()
        nursery.cancel_scope.cancel()
    assert not commits.wait()
