"""What requests, tokens and money do to the counters of a target: reserve, settle, give back, warn."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from rlmd.core.model import EventKind, Notice, Receipt, Usage
from rlmd.core.snapshot import Snapshot, merge
from rlmd.core.target import Counter, Target, foreseen, name_providers
from rlmd.core.text import clock, of_model, plain, stated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.errors.headers import Reported
    from rlmd.core.lease import Lease
    from rlmd.core.state import Call

SNAPSHOTS = 32
"""The most windows that a provider may report for one model. Known providers report a dozen at most."""
_BACK = 2.0
"""Stored in `last_warned` once `recovered` was announced. Larger than any share: the window announces no more."""


def reserve(lease: Lease, now: float) -> None:
    """Reserve in every counter of the target what the request will use, as far as that is known."""
    for counter in lease.target.counters:
        _reserve(lease, counter, now)
    for name, snapshot in lease.target.snapshots.items():
        amount = foreseen(snapshot.of, lease.estimate)
        snapshot.since += amount
        lease.noted[name] = snapshot, amount


def reserve_in_new_limits(lease: Lease, now: float) -> None:
    """Reserve for a request under way in the counters that a reload has added since the request began."""
    known = {counter.key for counter, _, _ in lease.slots}
    for counter in lease.target.counters:
        if counter.key not in known and (counter.counts_requests or not lease.receipt.metered):
            _reserve(lease, counter, now)


def _reserve(lease: Lease, counter: Counter, now: float) -> None:
    amount = 1.0 if counter.counts_requests else counter.amount(lease.estimate)
    if amount > 0:
        lease.slots.append((counter, counter.window.reserve(amount, now), amount))


def settle_request(lease: Lease, call: Call, *, counts: bool) -> None:
    """Count the request of a lease, or give it back because the provider refused it."""
    for counter, slot, amount in lease.slots:
        if counter.counts_requests:
            counter.window.settle(slot, amount, amount if counts else 0.0, call.now)
            if counts:
                lease.receipt.counted.append((counter.key, slot))
            changed(counter, lease.target, call)
    lease.slots = [kept for kept in lease.slots if not kept[0].counts_requests] if lease.target.meters else []
    if not counts:
        for snapshot, amount in lease.noted.values():
            snapshot.since -= amount
        lease.noted = {}


def settle_tokens(lease: Lease, call: Call, *, keep: bool) -> None:
    """Count the estimate of a lease as used, or give it back."""
    for counter, slot, amount in lease.slots:
        counter.window.settle(slot, amount, amount if keep else 0.0, call.now)
        if keep:
            lease.receipt.estimated.append((counter.key, slot, amount))
        changed(counter, lease.target, call)
    lease.slots = []


def count_request(target: Target, receipt: Receipt, call: Call) -> None:
    """Count a request for which nothing is reserved here."""
    for counter in target.counters:
        if counter.counts_requests:
            receipt.counted.append((counter.key, counter.window.count(1.0, call.now)))
            changed(counter, target, call)


def give_back(receipt: Receipt, target: Target, call: Call) -> None:
    """Take back a counted request, and its estimate, whose refusal became known later."""
    for key, slot, amount in (*((key, slot, 1.0) for key, slot in receipt.counted), *receipt.estimated):
        counter = call.state.counters.get(key)
        if counter is not None:
            counter.window.refund(slot, amount, call.now)
            changed(counter, target, call)
    receipt.counted, receipt.estimated = [], []


def meter(target: Target, lease: Lease | None, receipt: Receipt, usage: Usage, call: Call) -> None:
    """Count tokens and money. The figures replace what the lease reserved, or the estimate that was counted."""
    if target.meters:
        _replace(target, lease, receipt, usage, call)
    receipt.metered, receipt.estimated = True, []
    for what in ("tokens", "cost"):
        if amount := usage.amount(what):
            call.note_use(target, what, amount)
    if lease and target.meters:
        lease.slots = [kept for kept in lease.slots if kept[0].counts_requests]
    if lease and lease.noted:
        for snapshot, amount in lease.noted.values():
            if snapshot.of != "requests":
                snapshot.since += usage.amount(snapshot.of) - amount
        lease.noted = {name: (s, amount) for name, (s, amount) in lease.noted.items() if s.of == "requests"}


def _replace(target: Target, lease: Lease | None, receipt: Receipt, usage: Usage, call: Call) -> None:
    """Replace what was reserved, or an estimate that was counted, by the real amounts."""
    reserved = {counter.key: (slot, amount) for counter, slot, amount in lease.slots} if lease else {}
    estimated = {key: (slot, amount) for key, slot, amount in receipt.estimated}
    for counter in target.meters:
        actual = usage.amount(counter.limit.of)
        slot, amount = reserved.get(counter.key, (None, 0.0))
        if slot is not None:
            counter.window.settle(slot, amount, actual, call.now)
        elif counter.key in estimated:
            slot, amount = estimated[counter.key]
            counter.window.refund(slot, max(0.0, amount - actual), call.now)
            counter.window.count(max(0.0, actual - amount), call.now)
        elif actual > 0:
            counter.window.count(actual, call.now)
        else:
            continue
        changed(counter, target, call)


def apply_windows(
    said: tuple[Reported, ...],
    target: Target,
    newest_first: Iterable[Lease],
    call: Call,
    *,
    started: float,
) -> None:
    """Keep the windows that the provider reports, less what later requests have used."""
    if not said:
        return
    later = [lease for lease in takewhile(lambda lease: lease.at > started, newest_first) if lease.target is target]
    for reported in said:
        if (
            reported.of is None
            or reported.reset is None
            or reported.reset - call.now > call.state.policy.cooldown.longest
        ):
            continue
        since = sum(foreseen(reported.of, lease.estimate) for lease in later)
        new = Snapshot(reported.of, reported.limit, reported.remaining, reported.reset, started, since, reported.span)
        held = target.snapshots.get(reported.name)
        if held is None and not _has_room(target, call.now):
            continue
        merged = target.snapshots[reported.name] = merge(held, new, call.now)
        if merged is not held:
            for lease in later:
                lease.noted[reported.name] = merged, foreseen(reported.of, lease.estimate)
    call.keep_snapshots(target)


def _has_room(target: Target, now: float) -> bool:
    """True if one more window of the provider may be kept. Windows that have ended are forgotten."""
    if len(target.snapshots) >= SNAPSHOTS:
        target.snapshots = {name: s for name, s in target.snapshots.items() if now < s.resets_at}
    return len(target.snapshots) < SNAPSHOTS


def changed(counter: Counter, target: Target, call: Call) -> None:
    """Keep a counter that has changed; warn once a window; plan the announcement of the window's end."""
    call.keep_counter(counter)
    if counter.key not in call.state.counters:
        return  # its limit has been taken out
    _warn(counter, target, call)
    if counter.planned is None:
        plan_end(counter, call)


def _warn(counter: Counter, target: Target, call: Call) -> None:
    """Warn if the counter has reached a share that no warning has named in this window."""
    share = counter.share(call.now)
    if share >= counter.first_warning:
        start = counter.window.started(call.now) or 0.0
        warned = counter.last_warned[1] if counter.last_warned[0] == start else 0.0
        reached = max((w for w in (*counter.limit.warn_at, 1.0) if warned < w <= share), default=None)
        if reached is not None:
            counter.last_warned = (start, reached)
            call.tell(_warning(counter, target, call, exhausted=reached >= 1))


def judge_anew(counter: Counter, call: Call) -> None:
    """Announce what a changed maximum means for its counter: a share is reached, or there is room again."""
    if not counter.follow_maximum():
        return
    counter.planned = None
    before = counter.last_warned
    used_up = before == (counter.window.started(call.now) or 0.0, 1)
    counter.last_warned = (0.0, 0.0)
    target, *_ = call.state.behind(counter.key)
    _warn(counter, target, call)
    plan_end(counter, call)
    if counter.last_warned != before:
        call.keep_counter(counter)
    if used_up and counter.room(counter.amount(None), call.now):
        call.tell(_has_room_again(counter, call))


def plan_end(counter: Counter, call: Call) -> None:
    """Plan the announcement of a window's end. A rolling window is announced only when it is full."""
    if counter.planned is not None:
        return
    window, now = counter.window, call.now
    if counter.last_warned[1] and counter.last_warned[0] != (window.started(now) or 0.0):
        counter.last_warned = (0.0, 0.0)
    if counter.limit.window == "rolling":
        at = counter.free_at(counter.amount(None), now) if counter.share(now) >= 1 else None
    else:
        at = None if window.empty(now) else window.resets_at(now)
    if at is not None:
        counter.planned = at
        call.state.plan(at, counter.key)


def announce_end(counter: Counter, call: Call) -> None:
    """Announce that a window has ended, and that its providers are back if the window was used up."""
    now, limit = call.now, counter.limit
    if counter.planned is None or now < counter.planned:
        return
    counter.planned = None
    whose = call.state.behind(counter.key)
    whom, _ = name_providers(whose)
    name = whose[0].provider.id
    if limit.window != "rolling":
        text = f"{whom}: a new window of {stated(limit)} begins"
        call.tell(Notice("reset", now, text, provider=name, model=limit.model))
    if counter.last_warned[1] == 1 and counter.room(counter.amount(None), now):
        counter.last_warned = (counter.last_warned[0], _BACK)
        call.tell(_has_room_again(counter, call))
        call.keep_counter(counter)
    plan_end(counter, call)


def _has_room_again(counter: Counter, call: Call) -> Notice:
    limit, whose = counter.limit, call.state.behind(counter.key)
    whom, its = name_providers(whose)
    text = f"{whom} may be used again: {its} limit per {limit.per}{of_model(limit)} has room"
    return Notice("recovered", call.now, text, provider=whose[0].provider.id, model=limit.model)


def _warning(counter: Counter, target: Target, call: Call, *, exhausted: bool) -> Notice:
    limit, window, now = counter.limit, counter.window, call.now
    resets = window.resets_at(now)
    when = f", resets {clock(resets, now, call.state.policy.zone)}" if resets is not None else ""
    event: EventKind = "exhausted" if exhausted else "warning"
    name: str = target.provider.id
    reason: Literal["limit"] = "limit"
    text = f"{name} has used {plain(window.used(now), limit.of)} of {stated(limit)}{when}"
    return Notice(event, now, text, provider=name, model=limit.model, reason=reason, until=resets)
