"""The only way out for effects: the changes of the ledger's steps become durable, then their events are told.

While the disk fails, changes wait in the outbox and decisions go on from memory; a later commit tries again. The
changes that wait are bounded: facts and usage by the names in the configuration, receipts and events by a number.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

import msgspec

from rlmd.core.model import Effects, Notice
from rlmd.store import recovery
from rlmd.store.database import CHECKPOINT_AT, KEPT
from rlmd.store.journal import QUARTER
from rlmd.store.migrations import StoreError
from rlmd.wire.messages import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.model import FactKind, Receipt
    from rlmd.store.database import Store
    from rlmd.store.journal import Used

log = logging.getLogger(__name__)

EVENTS_WAITING = 10_000
"""Events kept in memory while the disk fails. Beyond this number the oldest are dropped."""
RECEIPTS_WAITING = 20_000
"""Receipts kept in memory while the disk fails. None of them was acknowledged. A lease whose receipt is dropped counts
twice where it is reported again."""
RETRY = 1.0
"""Seconds between commits while the disk fails: a disk that hangs must not delay every reply."""


class Outbox:
    """Makes the changes of steps durable, and tells their events."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        all_facts: Callable[[], Effects],
        on_log_large: Callable[[int], None],
    ) -> None:
        """`all_facts` is for a database that has to be begun afresh.

        `on_log_large` is told the bytes of the database's log when the log is worth a checkpoint.
        """
        self._listeners: list[Callable[[Event], None]] = []
        self._store = store
        self._clock = clock
        self._all_facts = all_facts
        self._on_log_large = on_log_large
        self._failed_at: float | None = None
        self._fold_failed_at: float | None = None
        self._facts: dict[tuple[FactKind, str], Callable[[], object]] = {}
        self._receipts: dict[str, Receipt] = {}
        self._events: list[tuple[float, Event]] = []
        self._usage: dict[Used, float] = {}
        """These four are not on the disk yet."""
        self._pending_events: list[Event] = []
        """Events that no listener has been told."""

    def listen(self, *listeners: Callable[[Event], None]) -> None:
        """Hand every event from now on to these listeners. A listener that fails costs no other its event."""
        self._listeners += listeners

    @property
    def paused(self) -> bool:
        """Whether commits wait, because a checkpoint truncates the log."""
        return self._store.paused

    @property
    def durable(self) -> bool:
        """Whether everything that was acknowledged is on the disk."""
        return self._failed_at is None

    @property
    def due(self) -> float | None:
        """The time of the next commit; None where no change waits."""
        if self._failed_at is not None:
            return self._failed_at + RETRY
        waits = self._facts or self._receipts or self._events or self._usage
        return 0.0 if waits and not self.paused else None

    def receipt(self, lease: str) -> Receipt | None:
        """Look up the receipt of a lease that is not under way."""
        if lease in self._receipts:
            return self._receipts[lease]
        try:
            return self._store.receipt(lease)
        except recovery.UNREADABLE as error:
            self.report_error("cannot look up a lease", error)
            return None

    def events(self, since: float, limit: int) -> list[Event]:
        """Give the last events since a time, oldest first. Raises `sqlite3.Error`."""
        try:
            stored = self._store.events(since, limit)
        except recovery.UNREADABLE as error:
            self.report_error("the events cannot be read", error)
            raise sqlite3.DatabaseError(str(error)) from error
        return [*stored, *(event for at, event in self._events if at >= since)][-limit:]

    def tidy(self) -> None:
        """Fold a journal that is long enough; request the checkpoint of a log that is. It never raises."""
        if self.paused or not self._store.unfolded or self._soon_after(self._fold_failed_at):
            return
        try:
            self.fold()
            size = self._store.log_size()
            if size >= CHECKPOINT_AT:
                self._on_log_large(size)
        except Exception:
            self._fold_failed_at = self._clock()
            log.exception("the journal cannot be folded now; please report this")

    def fold(self) -> None:
        """Move the rows of the journal into their tables."""
        try:
            self._store.fold()
        except recovery.UNREADABLE as error:
            self._fold_failed_at = self._clock()
            self.report_error("the journal cannot be folded now", error)
        else:
            self._fold_failed_at = None

    def prune(self, now: float, keep: float = KEPT) -> bool:
        """Remove a few rows that are older than `keep` seconds. True where there may be more."""
        if self.paused:
            return True
        try:
            return self._store.prune(now, keep)
        except (OSError, *recovery.UNREADABLE) as error:
            self.report_error("old rows cannot be removed now", error)
            return False

    def add(self, step: Effects) -> None:
        """Take the changes and notices of a step. They wait for the next `commit` and `tell`."""
        if step.facts:
            self._facts.update(step.facts)
        if step.receipts:
            self._receipts.update(step.receipts)
        if step.usage:
            for at, provider, model, what, amount in step.usage:
                used = (int(at) // QUARTER * QUARTER, provider, model, what)
                self._usage[used] = self._usage.get(used, 0) + amount
        for notice in step.notices:
            self._tell(notice)

    def settle(self, *, insist: bool = False) -> bool:
        """Commit and tell: for callers that have no reply to send in between."""
        durable = self.commit(insist=insist)
        self.tell()
        return durable

    def commit(self, *, insist: bool = False) -> bool:
        """Make all waiting changes durable, in one transaction. It never raises.

        False where that failed: the changes are kept and tried again, `RETRY` seconds later at the earliest unless the
        caller insists.
        """
        if self.paused:
            return False
        if (self._facts or self._receipts or self._events or self._usage) and (
            insist or not self._soon_after(self._failed_at)
        ):
            try:
                self._commit()
            except Exception:
                log.exception("the state cannot be written; please report this")
                self._facts = {name: read for name, read in self._facts.items() if _is_writable(name, read)}
                self._failed("the state cannot be written because of a bug: deciding from memory")
        return self._failed_at is None

    def tell(self) -> None:
        """Hand the pending events to every listener, after `commit` has succeeded or failed. It never raises."""
        if self.paused:
            return
        events, self._pending_events = self._pending_events, []
        for event in events:
            log.info("%s: %s", event.event, " ".join(event.message.split()))
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    log.exception("an event cannot be told; please report this")

    def _soon_after(self, failed_at: float | None) -> bool:
        return failed_at is not None and failed_at <= self._clock() < failed_at + RETRY

    def _tell(self, notice: Notice) -> None:
        event = _event(notice)
        self._events.append((notice.at, event))
        self._pending_events.append(event)

    def _commit(self) -> None:
        try:
            self._store.commit(self._facts, self._receipts, self._events, self._usage)
        except (OSError, *recovery.UNREADABLE, StoreError) as error:
            self._failed(f"the state cannot be written ({error}): deciding from memory until it can")
            if recovery.is_damage(error):
                self.begin_afresh(error)
            return
        self._facts.clear()
        self._receipts.clear()
        self._events.clear()
        self._usage.clear()
        if self._failed_at is not None:
            self._failed_at = None
            text = "the state is written again, nothing that was kept in memory is lost"
            self._tell(Notice("state", self._clock(), text))

    def report_error(self, what: str, error: Exception) -> None:
        """Log an error of anything but a commit. An error that means damage has a fresh database begun."""
        log.warning("%s: %s", what, error)
        if recovery.is_damage(error):
            self.begin_afresh(error)
            self.settle(insist=True)

    def begin_afresh(self, error: BaseException) -> None:
        """Go on in a fresh database where the old one is damaged: all facts are known in memory, too."""
        self.add(self._all_facts())
        try:
            self._store.begin_afresh(error)
        except (OSError, sqlite3.Error, StoreError) as second:
            self._failed(f"the state is damaged ({error}), and no fresh one can be begun yet: {second}")
        self.warn()

    def warn(self) -> None:
        """Tell a person how the database was found, where that matters."""
        if self._store.warning is not None:
            log.warning("%s", self._store.warning)
            self._tell(Notice("state", self._clock(), self._store.warning))
            self._store.warning = None

    def _failed(self, text: str) -> None:
        now = self._clock()
        if self._failed_at is None:
            self._tell(Notice("state", now, text))
        self._failed_at = now
        del self._events[:-EVENTS_WAITING]
        for lease in list(self._receipts)[:-RECEIPTS_WAITING]:
            del self._receipts[lease]


def _is_writable(name: tuple[FactKind, str], read: Callable[[], object]) -> bool:
    """Tell whether a fact can be written: one that cannot must not keep all others from the disk."""
    try:
        msgspec.json.encode(read())
    except Exception:
        log.exception("the %s of %s cannot be kept; please report this", *name)
        return False
    return True


def _event(notice: Notice) -> Event:
    """Return a notice as an event: the same fields, with times as stamps."""
    until = None if notice.until is None else rfc3339(notice.until)
    return Event(**(msgspec.structs.asdict(notice) | {"at": rfc3339(notice.at), "until": until}))
