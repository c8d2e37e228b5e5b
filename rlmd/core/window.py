"""Windows: what has been used of one limit, what is reserved of it, and when there is room again.

A Window counts; it never knows the maximum, which may change at any time. What it counts sits in slots: a
calendar or first-use window is one slot, named by its start; a rolling one is a ring of numbered buckets.

Reading changes nothing, so looking ahead is free. Writing moves the window on, and only forwards: a slot that
was left behind never opens again, even if the clock steps back, and what counts by then goes on counting.
"""

from __future__ import annotations

from datetime import tzinfo
from math import ceil, inf
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, field

from rlmd.core.calendar import bounds, seconds
from rlmd.core.model import LATEST, Moment, WindowKind

if TYPE_CHECKING:
    from rlmd.core.model import Limit

BUCKETS = 60

# Amounts are kept in whole billionths: sums are exact in any order, and a refund leaves nothing over.
_ONE = 1_000_000_000

# A bucket's length is a whole number of these parts of a second: so every edge is exactly a float.
_PARTS = 2**20

Slot = float


class Amounts(Struct):
    """What one slot holds, in billionths of the limited quantity."""

    used: int = 0
    reserved: int = 0
    open: int = 0
    """Reservations not settled yet: one without an estimate is of nothing, but it is out."""

    @property
    def load(self) -> int:
        """Used and reserved together."""
        return self.used + self.reserved

    def add(self, other: Amounts, sign: int = 1) -> None:
        """Add each count of the other amounts, or take it off."""
        self.used += sign * other.used
        self.reserved += sign * other.reserved
        self.open += sign * other.open


class WindowRow(Struct):
    """The durable part of a window."""

    start: Moment
    used: list[tuple[Moment, Annotated[float, Meta(ge=0, le=10**18)]]]
    """Slots and what is used in each."""


class Window(Struct):
    """The counter behind one limit. Amounts are of the limit's quantity and never negative."""

    kind: WindowKind
    per: str
    zone: tzinfo
    start: float = 0.0
    """When the window opened; for a rolling one see `started`."""
    slots: dict[Slot, Amounts] = field(default_factory=dict)
    total: Amounts = field(default_factory=Amounts)
    end: float = inf
    """When the next slot leaves: until then `total` is what counts."""
    length: float = 0.0
    """Seconds, of a first-use window or of one bucket of a rolling one."""
    oldest: Slot = 0.0
    """The first bucket that a rolling window has not left behind."""

    def __post_init__(self) -> None:
        match self.kind:
            case "calendar":
                self.end = bounds(self.per, self.start, self.zone)[1]
            case "first_use":
                self.length = seconds(self.per)
                self.end = self.start + self.length
            case "rolling":
                self.length = _bucket_length(self.per)
        for amounts in self.slots.values():
            self.total.add(amounts)
        self._plan()

    @classmethod
    def for_limit(cls, limit: Limit) -> Window:
        """Return the window of a limit of which nothing has been used."""
        return cls(limit.window, limit.per, limit.zone)

    @classmethod
    def from_row(cls, limit: Limit, row: WindowRow) -> Window:
        """Restore what `row` kept, however long ago: reading passes over what has ended since.

        A bucket that only a damaged row can have, later than every calendar, is passed over too.
        """
        slots = {slot: Amounts(used=_billionths(used)) for slot, used in row.used}
        if limit.window == "rolling":
            latest = LATEST / _bucket_length(limit.per)
            slots = {slot: amounts for slot, amounts in slots.items() if slot <= latest}
        return cls(limit.window, limit.per, limit.zone, start=row.start, slots=slots)

    def row(self) -> WindowRow:
        """Return what survives a restart. Reservations do not: leases are soft."""
        used = [(slot, amounts.used / _ONE) for slot, amounts in self.slots.items() if amounts.used]
        return WindowRow(self.start, used)

    def load(self, now: float) -> float:
        """Return what is used and reserved."""
        return self._counted(now).load / _ONE

    def used(self, now: float) -> float:
        """Return what is used."""
        return self._counted(now).used / _ONE

    def reserved(self, now: float) -> float:
        """Return what is reserved."""
        return self._counted(now).reserved / _ONE

    def empty(self, now: float) -> bool:
        """Tell whether nothing is counted and no reservation open: then the window may be forgotten."""
        return self._counted(now) == Amounts()

    def started(self, now: float) -> float | None:
        """Return when the current window opened, which identifies it; None where none is open.

        A rolling window never ends as a whole. For what is to happen once a window it is a new one when the
        bucket that opened it has left and something is counted: at most once in the span of its limit.
        """
        current = self._current(now)
        return current[0] if current else None

    def resets_at(self, now: float) -> float | None:
        """Return when the window ends, or a rolling one's oldest bucket leaves; None where none is open."""
        current = self._current(now)
        return current[1] if current else None

    def free_at(self, amount: float, maximum: float, now: float) -> float | None:
        """Return the earliest time from `now` on at which `amount` fits if nothing else happens; None: never.

        It fits where load + amount is at most the maximum; an unknown amount, 0, where load is below it.
        """
        if maximum <= 0 or amount > maximum:
            return None
        if _fits(self._counted(now).load, amount, maximum):
            return now
        load = self.total.load
        for slot in sorted(self.slots):  # in the order in which they leave; those that have make no room
            load -= self.slots[slot].load
            if _fits(load, amount, maximum):
                return self._leaves(slot)
        raise AssertionError("an amount up to the maximum fits once all has left")

    def reserve(self, amount: float, now: float) -> Slot:
        """Set `amount` aside for a request and return the slot it sits in, for `settle`."""
        slot = self._open(now)
        self._change(slot, reserved=_billionths(amount), opened=1)
        return slot

    def settle(self, slot: Slot, reserved: float, actual: float, now: float) -> None:
        """Replace a reservation, once, by what it came to: 0 gives all back, what is over counts at `now`."""
        expected = _billionths(reserved)
        real = expected if actual == reserved else _billionths(actual)
        if real > expected:
            self._change(self._open(now), used=real - expected)
        if now >= self.end:
            self._roll(now)
        if slot in self.slots:  # else it has left, and all that was in it
            self._change(slot, min(real, expected), -expected, -1)

    def count(self, amount: float, now: float) -> Slot:
        """Count what nothing was reserved for, and return the slot, for `refund`. Nothing opens no window."""
        if not amount:
            return self.start
        slot = self._open(now)
        self._change(slot, used=_billionths(amount))
        return slot

    def refund(self, slot: Slot, amount: float, now: float) -> None:
        """Take back what was counted as used in a slot; nothing where the slot has left."""
        self._roll(now)
        if slot in self.slots:
            self._change(slot, used=-_billionths(amount))

    def forget(self, now: float) -> None:
        """Take back all that is used, because a person says so; what is reserved stays reserved.

        Where nothing is, the window begins anew: the cure for one that a wrong clock took into the future.
        """
        self._roll(now)
        for slot, amounts in list(self.slots.items()):
            self._change(slot, used=-amounts.used)
        if not self.slots:
            self.start = self.oldest = 0.0
            self.end = 0.0 if self.kind == "calendar" else inf

    def _counted(self, now: float) -> Amounts:
        """Return what counts at `now`."""
        if now < self.end:
            return self.total
        counted, gone = Amounts(), self._gone(now)
        if len(gone) == len(self.slots):
            return counted
        counted.add(self.total)
        for slot in gone:
            counted.add(self.slots[slot], -1)
        return counted

    def _current(self, now: float) -> tuple[float, float] | None:
        """Return when the window that holds `now` opened and when the next slot leaves it."""
        if self.kind == "calendar":
            return (self.start, self.end) if now < self.end else bounds(self.per, now, self.zone)
        kept = self.slots.keys() - self._gone(now)
        return (self.start, self._leaves(min(kept))) if kept else None

    def _gone(self, now: float) -> list[Slot]:
        """Return the slots that have left by `now`."""
        if now < self.end:
            return []
        if self.kind == "rolling":
            oldest = now // self.length - BUCKETS
            return [slot for slot in self.slots if slot < oldest]
        return list(self.slots)

    def _leaves(self, slot: Slot) -> float:
        """Return when a slot leaves: a bucket when its last instant is as old as the limit's span."""
        return (slot + BUCKETS + 1) * self.length if self.kind == "rolling" else self.end

    def _roll(self, now: float) -> None:
        """Leave behind what has ended."""
        if now < self.end:
            return
        for slot in self._gone(now):
            self.total.add(self.slots.pop(slot), -1)
        match self.kind:
            case "calendar":
                self.start, self.end = bounds(self.per, now, self.zone)
            case "first_use":
                self.start = self.end  # the next one opens no earlier than this one ended
            case "rolling":
                self.oldest = now // self.length - BUCKETS
        self._plan()

    def _open(self, now: float) -> Slot:
        """Return the slot for what happens at `now`; a window that is not open opens."""
        if now >= self.end:
            self._roll(now)
        if self.kind == "rolling":
            slot = max(now // self.length, self.oldest)
            edge = slot * self.length
            if not self.slots or edge >= self.start + (BUCKETS + 1) * self.length:
                self.start = max(edge, self.start)
            return slot
        if self.kind == "first_use" and not self.slots:
            self.start = max(now, self.start)
            self.end = self.start + self.length
        return self.start

    def _change(self, slot: Slot, used: int = 0, reserved: int = 0, opened: int = 0) -> None:
        """Change what a slot holds, never below nothing; one that then holds nothing is forgotten."""
        amounts, total = self.slots.get(slot), self.total
        if amounts is None:
            amounts = self.slots[slot] = Amounts()
        if used < 0:
            used = max(used, -amounts.used)
        if reserved < 0:
            reserved = max(reserved, -amounts.reserved)
        if opened < 0:
            opened = max(opened, -amounts.open)
        amounts.used += used
        amounts.reserved += reserved
        amounts.open += opened
        total.used += used
        total.reserved += reserved
        total.open += opened
        if not (amounts.used or amounts.reserved or amounts.open):
            del self.slots[slot]
        if self.kind != "calendar":
            self._plan()

    def _plan(self) -> None:
        """Set when the next slot leaves; a calendar or an open first-use window has its end already."""
        if self.kind == "rolling" and self.slots:
            self.end = self._leaves(min(self.slots))
        elif self.kind != "calendar" and not self.slots:
            self.end = inf


def _bucket_length(per: str) -> float:
    return ceil(seconds(per) * _PARTS / BUCKETS) / _PARTS


def _fits(load: int, amount: float, maximum: float) -> bool:
    return load / _ONE + amount <= maximum if amount else load / _ONE < maximum


def _billionths(amount: float) -> int:
    return round(amount * _ONE)
