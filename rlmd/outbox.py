"""The only way effects leave: what the ledger's steps changed becomes durable, then it is answered and told.

Where the disk fails, facts wait here and decisions go on from memory; the next settling tries again.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

import msgspec

from rlmd.protocol import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rlmd.core.model import FactKind, Notice, Receipt, Step
    from rlmd.store import Store

log = logging.getLogger(__name__)

EVENTS_WAITING = 10_000
"""Events kept in memory while the disk fails; the oldest are dropped beyond that."""


class Outbox:
    """Makes steps durable and tells what they have to tell."""

    def __init__(self, store: Store) -> None:
        self.publish: Callable[[Event], None] = _nobody
        """Hands an event to who listens."""
        self.durable = True
        """Whether everything that was settled is on the disk."""
        self._store = store
        self._facts: dict[tuple[FactKind, str], Callable[[], object]] = {}
        self._receipts: dict[str, Receipt] = {}
        self._events: list[tuple[float, bytes]] = []

    def receipt(self, lease: str) -> Receipt | None:
        """Look up what is remembered of a lease that is not under way."""
        if lease in self._receipts:
            return self._receipts[lease]
        try:
            return self._store.receipt(lease)
        except sqlite3.Error as error:
            log.warning("cannot look up lease %s: %s", lease, error)
            return None

    def events(self, since: float, limit: int) -> list[Event]:
        """Give the last events since a time, oldest first. Raises `sqlite3.Error`."""
        return [msgspec.json.decode(row, type=Event) for _, row in self._store.events(since, limit)]

    def prune(self, now: float) -> bool:
        """Drop a few rows that are too old to matter. True where there may be more."""
        try:
            return self._store.prune(now)
        except sqlite3.Error as error:
            log.warning("old rows cannot be removed now: %s", error)
            return False

    def settle(self, steps: Iterable[Step]) -> bool:
        """Commit what these steps changed, with all that still waits, and tell their notices.

        False where it could not be made durable; it is kept and tried again.
        """
        events: list[Event] = []
        for step in steps:
            self._facts.update(step.facts)
            self._receipts.update(step.receipts)
            events += map(_event, step.notices)
            for notice in step.notices:
                self._events.append((notice.at, msgspec.json.encode(_event(notice))))
        if self._facts or self._receipts or self._events:
            self._commit()
        for event in events:
            log.info("%s: %s", event.event, event.message)
            self.publish(event)
        return self.durable

    def _commit(self) -> None:
        try:
            self._store.commit(self._facts, self._receipts, self._events)
        except sqlite3.Error as error:
            if self.durable:
                log.error("the state cannot be written (%s): deciding from memory until it can", error)  # noqa: TRY400
            self.durable = False
            del self._events[:-EVENTS_WAITING]
            return
        if not self.durable:
            log.warning("the state is written again, nothing that was kept in memory is lost")
        self.durable = True
        self._facts.clear()
        self._receipts.clear()
        self._events.clear()


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
