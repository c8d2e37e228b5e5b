"""One task that announces the ends of cooldowns, windows and leases. No decision depends on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.ledger import Ledger
    from rlmd.server.outbox import Outbox

log = logging.getLogger(__name__)

LONGEST_SLEEP = 30.0
"""Longest sleep in seconds: trio's clock stops in suspend, and the wall clock may step."""


class Timers:
    """Sleeps until the next deadline, or for ever where there is none."""

    def __init__(self, ledger: Ledger, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._clock = clock
        self._until: float | None = None
        self._sooner = trio.Event()

    def poke(self) -> None:
        """Wake the task if there is a deadline before the one for which it sleeps."""
        at = self._deadline()
        if at is not None and (self._until is None or at < self._until):
            self._sooner.set()

    async def run(self) -> None:
        """Announce for ever."""
        while True:
            self._until = self._deadline()
            if self._until is None:
                await self._sooner.wait()
            else:
                with trio.move_on_after(min(LONGEST_SLEEP, max(0.0, self._until - self._clock()))):
                    await self._sooner.wait()
            self._sooner = trio.Event()
            try:
                self._outbox.add(self._ledger.roll(self._clock()))
                self._outbox.settle()
                self._outbox.tidy()
            except Exception:
                log.exception("what has ended cannot be announced; please report this")
                await trio.sleep(LONGEST_SLEEP)

    def _deadline(self) -> float | None:
        at, due = self._ledger.next_deadline(), self._outbox.due
        return at if due is None else due if at is None else min(at, due)
