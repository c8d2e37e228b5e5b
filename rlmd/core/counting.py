"""What requests, tokens and money do to the counters of a target: reserve, settle, give back, warn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from rlmd.core.model import EventKind, Notice, Receipt, Step, Usage
from rlmd.core.route import Counter, Target, clock, foreseen
from rlmd.core.snapshot import Snapshot, merge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.book import Book
    from rlmd.core.hints import Reported

LEASE = 900.0
"""Seconds after which a lease that nobody reported is let go (the contract's 15 minutes)."""


class Lease(Struct):
    """One request under way: what is reserved for it, and what is to be remembered of it."""

    id: str
    target: Target
    session: str | None
    at: float
    estimate: int | None
    receipt: Receipt
    slots: list[tuple[Counter, float, float]] = []
    """Counter, slot in its window, amount reserved."""

    @property
    def in_flight(self) -> bool:
        """Whether its final report is still to come; after it a lease may wait for its usage."""
        return self.receipt.stage in {"reserved", "accepted"}


def reserve(lease: Lease, now: float) -> None:
    """Take out of every limit what the request will use as far as it is known."""
    for counter in lease.target.counters:
        amount = counter.amount(lease.estimate)
        if amount > 0:
            lease.slots.append((counter, counter.window.reserve(amount, now), amount))
    for snapshot in lease.target.snapshots.values():
        snapshot.since += foreseen(snapshot.of, lease.estimate)


def settle_request(lease: Lease, book: Book, now: float, step: Step, *, counts: bool) -> None:
    """Decide that the request of a lease was used, or that it was refused and is given back."""
    for counter, slot, amount in lease.slots:
        if counter.counts_requests:
            counter.window.settle(slot, amount, amount if counts else 0.0, now)
            if counts:
                lease.receipt.counted.append((counter.key, slot))
            changed(counter, lease.target, book, now, step)
    lease.slots = [kept for kept in lease.slots if not kept[0].counts_requests]


def settle_tokens(lease: Lease, book: Book, now: float, step: Step, *, keep: bool) -> None:
    """Let the estimate of a lease stand as what was used, or give it back."""
    for counter, slot, amount in lease.slots:
        counter.window.settle(slot, amount, amount if keep else 0.0, now)
        changed(counter, lease.target, book, now, step)
    lease.slots = []


def count_request(target: Target, book: Book, now: float, step: Step) -> None:
    """Count a request for which nothing is reserved here."""
    for counter in target.counters:
        if counter.counts_requests:
            counter.window.count(1.0, now)
            changed(counter, target, book, now, step)


def give_back(receipt: Receipt, target: Target, book: Book, now: float, step: Step) -> None:
    """Take back a request that was counted before its refusal became known."""
    for key, slot in receipt.counted:
        counter = book.counters.get(key)
        if counter is not None:
            counter.window.refund(slot, 1.0, now)
            changed(counter, target, book, now, step)
    receipt.counted = []


def meter(target: Target, lease: Lease | None, usage: Usage, book: Book, now: float, step: Step) -> None:
    """Count tokens and money; what a lease reserved for them is replaced."""
    reserved = {counter.key: (slot, amount) for counter, slot, amount in lease.slots} if lease else {}
    for counter in target.counters:
        if counter.counts_requests:
            continue
        actual = usage.amount(counter.limit.of)
        slot, amount = reserved.get(counter.key, (None, 0.0))
        if slot is not None:
            counter.window.settle(slot, amount, actual, now)
        elif actual > 0:
            counter.window.count(actual, now)
        else:
            continue
        changed(counter, target, book, now, step)
    if lease:
        lease.slots = [kept for kept in lease.slots if kept[0].counts_requests]


def observe(
    said: tuple[Reported, ...],
    target: Target,
    others: Iterable[Lease],
    *,
    started: float,
    now: float,
    book: Book,
    step: Step,
) -> None:
    """Take in what the provider says is left, less what later requests have taken since."""
    if not said:
        return
    later = [lease for lease in others if lease.target is target and lease.at > started]
    for reported in said:
        if reported.of is None or reported.reset is None:
            continue
        since = sum(foreseen(reported.of, lease.estimate) for lease in later)
        new = Snapshot(reported.of, reported.limit, reported.remaining, reported.reset, started, since)
        target.snapshots[reported.name] = merge(target.snapshots.get(reported.name), new, now)
    book.keep_snapshots(target, step)


def changed(counter: Counter, target: Target, book: Book, now: float, step: Step) -> None:
    """Follow up a change of a counter: warn once a window, plan the announcement of its end, keep it."""
    limit = counter.limit
    share = counter.window.used(now) / limit.max
    if share >= 1.0 or (limit.warn_at and share >= min(limit.warn_at)):
        start = counter.window.started(now) or 0.0
        told = counter.told[1] if counter.told[0] == start else 0.0
        reached = max((w for w in (*limit.warn_at, 1.0) if told < w <= share), default=None)
        if reached is not None:
            counter.told = (start, reached)
            step.notices.append(_warning(counter, target, book, now, exhausted=reached >= 1))
    if counter.planned is None:
        plan_end(counter, book, now)
    book.keep_counter(counter, step)


def plan_end(counter: Counter, book: Book, now: float) -> None:
    """See to it that the end of a window is announced: of a rolling one only when it is full."""
    if counter.planned is not None:
        return
    window = counter.window
    if counter.limit.window == "rolling":
        full = window.used(now) >= counter.limit.max
        at = window.free_at(counter.amount(None), counter.limit.max, now) if full else None
    else:
        at = None if window.empty(now) else window.resets_at(now)
    if at is not None:
        counter.planned = at
        book.plan(at, counter.key)


def announce_end(counter: Counter, book: Book, now: float, step: Step) -> None:
    """Tell that a planned window has ended, and that a provider is back if it had used it up."""
    if counter.planned is None or now < counter.planned:
        return
    counter.planned = None
    name = counter.key.partition("|")[0]
    limit = counter.limit
    if limit.window != "rolling":
        text = f"{name}: a new window of {limit.max:,.6g} {limit.of.replace('_', ' ')} per {limit.per} begins"
        step.notices.append(Notice("reset", now, text, provider=name, model=limit.model))
    if counter.told[1] >= 1 and counter.fits(counter.amount(None), now):
        counter.told = (0.0, 0.0)
        text = f"{name} may be used again: its limit per {limit.per} has room"
        step.notices.append(Notice("recovered", now, text, provider=name, model=limit.model))
    plan_end(counter, book, now)


def _warning(counter: Counter, target: Target, book: Book, now: float, *, exhausted: bool) -> Notice:
    limit, window = counter.limit, counter.window
    resets = window.resets_at(now)
    when = f", resets {clock(resets, now, book.policy.zone)}" if resets is not None else ""
    used = f"{window.used(now):,.6g} of {limit.max:,.6g} {limit.of.replace('_', ' ')}"
    event: EventKind = "exhausted" if exhausted else "warning"
    name: str = target.provider.id
    reason: Literal["limit"] = "limit"
    text = f"{name} has used {used} per {limit.per}{when}"
    return Notice(event, now, text, provider=name, model=limit.model, reason=reason, until=resets)
