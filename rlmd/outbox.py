"""The only way effects leave: what the ledger's steps changed becomes durable, then it is told.

Where the disk fails, facts wait here and decisions go on from memory; a later settling tries again.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

import msgspec

from rlmd.core.model import Notice
from rlmd.protocol import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.model import FactKind, Receipt, Step
    from rlmd.store import Store

log = logging.getLogger(__name__)

EVENTS_WAITING = 10_000
"""Events kept in memory while the disk fails; the oldest are dropped beyond that."""
RETRY = 1.0
"""Seconds between attempts to write while the disk fails: a disk that hangs is not to hang every answer."""


class Outbox:
    """Makes steps durable and tells what they have to tell."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.publish: Callable[[Event], None] = _nobody
        """Hands an event to who listens."""
        self._store = store
        self._clock = clock
        self._failed_at: float | None = None
        self._facts: dict[tuple[FactKind, str], Callable[[], object]] = {}
        self._receipts: dict[str, Receipt] = {}
        self._events: list[tuple[float, Event]] = []
        """Not on the disk yet."""
        self._untold: list[Event] = []

    @property
    def durable(self) -> bool:
        """Whether everything that was settled is on the disk."""
        return self._failed_at is None

    @property
    def retry_at(self) -> float | None:
        """When to settle again what the disk did not take; None where nothing waits."""
        return None if self._failed_at is None else self._failed_at + RETRY

    def receipt(self, lease: str) -> Receipt | None:
        """Look up what is remembered of a lease that is not under way."""
        if lease in self._receipts:
            return self._receipts[lease]
        try:
            return self._store.receipt(lease)
        except sqlite3.Error as error:
            log.warning("cannot look up a lease: %s", error)
            return None

    def events(self, since: float, limit: int) -> list[Event]:
        """Give the last events since a time, oldest first. Raises `sqlite3.Error`."""
        stored = [msgspec.json.decode(row, type=Event) for _, row in self._store.events(since, limit)]
        return [*stored, *(event for at, event in self._events if at >= since)][-limit:]

    def prune(self, now: float) -> bool:
        """Drop a few rows that are too old to matter. True where there may be more."""
        try:
            return self._store.prune(now)
        except sqlite3.Error as error:
            log.warning("old rows cannot be removed now: %s", error)
            return False

    def add(self, step: Step) -> None:
        """Take over what a step changed and has to tell. Nothing of it happens before `settle`."""
        self._facts.update(step.facts)
        self._receipts.update(step.receipts)
        for notice in step.notices:
            self._tell(notice)

    def settle(self, *, insist: bool = False) -> bool:
        """Make everything durable that waits, in one transaction, and tell what there is to tell.

        False where it could not be made durable: it is kept and tried again, `RETRY` seconds later at the
        earliest unless the caller insists.
        """
        if (self._facts or self._receipts or self._events) and (insist or not self._resting()):
            self._commit()
        events, self._untold = self._untold, []
        for event in events:
            log.info("%s: %s", event.event, event.message)
            self.publish(event)
        return self.durable

    def _resting(self) -> bool:
        return self._failed_at is not None and self._failed_at <= self._clock() < self._failed_at + RETRY

    def _tell(self, notice: Notice) -> None:
        event = _event(notice)
        self._events.append((notice.at, event))
        self._untold.append(event)

    def _commit(self) -> None:
        events = [(at, msgspec.json.encode(event)) for at, event in self._events]
        try:
            self._store.commit(self._facts, self._receipts, events)
        except sqlite3.Error as error:
            self._failed(f"the state cannot be written ({error}): deciding from memory until it can")
            return
        except Exception:
            log.exception("the state cannot be written; please report this")
            self._failed("the state cannot be written because of a bug: deciding from memory")
            return
        self._facts.clear()
        self._receipts.clear()
        self._events.clear()
        if self._failed_at is not None:
            self._failed_at = None
            text = "the state is written again, nothing that was kept in memory is lost"
            self._tell(Notice("state", self._clock(), text))

    def _failed(self, text: str) -> None:
        now = self._clock()
        if self._failed_at is None:
            self._tell(Notice("state", now, text))
        self._failed_at = now
        del self._events[:-EVENTS_WAITING]


def _nobody(_: Event) -> None:
    """Nobody listens yet."""


def _event(notice: Notice) -> Event:
    return Event(
        event=notice.event,
        at=rfc3339(notice.at),
        message=notice.message,
        provider=notice.provider,
        model=notice.model,
        session=notice.session,
        to=notice.to,
        reason=notice.reason,
        until=None if notice.until is None else rfc3339(notice.until),
    )
