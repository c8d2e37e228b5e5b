"""What requests, tokens and money do to the counters of a target: reserve, settle, give back, warn."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from rlmd.core.model import Effects, EventKind, Notice, Receipt, Usage, Used
from rlmd.core.snapshot import Snapshot, merge
from rlmd.core.target import Counter, Target, foreseen, name_providers
from rlmd.core.text import clock, of_model, plain, stated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.errors.headers import Reported
    from rlmd.core.lease import Lease
    from rlmd.core.state import State

SNAPSHOTS = 32
"""Windows of its own that a provider may tell of for one model; those known tell of a dozen at the most."""
_BACK = 2.0
"""Told of a window that was used up and has room again: a rolling one that stays nearly full is no news."""


def reserve(lease: Lease, now: float) -> None:
    """Take out of every limit what the request will use as far as it is known."""
    for counter in lease.target.counters:
        _reserve(lease, counter, now)
    for name, snapshot in lease.target.snapshots.items():
        amount = foreseen(snapshot.of, lease.estimate)
        snapshot.since += amount
        lease.noted[name] = snapshot, amount


def reserve_in_new_limits(lease: Lease, now: float) -> None:
    """Take a request that is under way out of the limits that a reload has added since it began."""
    known = {counter.key for counter, _, _ in lease.slots}
    for counter in lease.target.counters:
        if counter.key not in known and (counter.counts_requests or not lease.receipt.metered):
            _reserve(lease, counter, now)


def _reserve(lease: Lease, counter: Counter, now: float) -> None:
    amount = 1.0 if counter.counts_requests else counter.amount(lease.estimate)
    if amount > 0:
        lease.slots.append((counter, counter.window.reserve(amount, now), amount))


def settle_request(lease: Lease, state: State, now: float, step: Effects, *, counts: bool) -> None:
    """Decide that the request of a lease was used, or that it was refused and is given back."""
    for counter, slot, amount in lease.slots:
        if counter.counts_requests:
            counter.window.settle(slot, amount, amount if counts else 0.0, now)
            if counts:
                lease.receipt.counted.append((counter.key, slot))
            changed(counter, lease.target, state, now, step)
    lease.slots = [kept for kept in lease.slots if not kept[0].counts_requests] if lease.target.meters else []
    if not counts:
        for snapshot, amount in lease.noted.values():
            snapshot.since -= amount
        lease.noted = {}


def settle_tokens(lease: Lease, state: State, now: float, step: Effects, *, keep: bool) -> None:
    """Let the estimate of a lease stand as what was used, or give it back."""
    for counter, slot, amount in lease.slots:
        counter.window.settle(slot, amount, amount if keep else 0.0, now)
        if keep:
            lease.receipt.estimated.append((counter.key, slot, amount))
        changed(counter, lease.target, state, now, step)
    lease.slots = []


def count_request(target: Target, receipt: Receipt, state: State, now: float, step: Effects) -> None:
    """Count a request for which nothing is reserved here."""
    for counter in target.counters:
        if counter.counts_requests:
            receipt.counted.append((counter.key, counter.window.count(1.0, now)))
            changed(counter, target, state, now, step)


def give_back(receipt: Receipt, target: Target, state: State, now: float, step: Effects) -> None:
    """Take back a request, and its estimate, that was counted before its refusal became known."""
    for key, slot, amount in (*((key, slot, 1.0) for key, slot in receipt.counted), *receipt.estimated):
        counter = state.counters.get(key)
        if counter is not None:
            counter.window.refund(slot, amount, now)
            changed(counter, target, state, now, step)
    receipt.counted, receipt.estimated = [], []


def meter(
    target: Target, lease: Lease | None, receipt: Receipt, usage: Usage, state: State, now: float, step: Effects
) -> None:
    """Count tokens and money; what a lease reserved for them, or what its estimate stands for, is replaced."""
    if target.meters:
        _replace(target, lease, receipt, usage, state, now, step)
    receipt.metered, receipt.estimated = True, []
    for what in ("tokens", "cost"):
        if amount := usage.amount(what):
            step.usage.append(Used(now, target.provider.id, target.model, what, amount))
    if lease and target.meters:
        lease.slots = [kept for kept in lease.slots if kept[0].counts_requests]
    if lease and lease.noted:
        for snapshot, amount in lease.noted.values():
            if snapshot.of != "requests":
                snapshot.since += usage.amount(snapshot.of) - amount
        lease.noted = {name: (s, amount) for name, (s, amount) in lease.noted.items() if s.of == "requests"}


def _replace(
    target: Target, lease: Lease | None, receipt: Receipt, usage: Usage, state: State, now: float, step: Effects
) -> None:
    """Put the real amounts in the place of what was reserved, or of what an estimate stood for."""
    reserved = {counter.key: (slot, amount) for counter, slot, amount in lease.slots} if lease else {}
    estimated = {key: (slot, amount) for key, slot, amount in receipt.estimated}
    for counter in target.meters:
        actual = usage.amount(counter.limit.of)
        slot, amount = reserved.get(counter.key, (None, 0.0))
        if slot is not None:
            counter.window.settle(slot, amount, actual, now)
        elif counter.key in estimated:
            slot, amount = estimated[counter.key]
            counter.window.refund(slot, max(0.0, amount - actual), now)
            counter.window.count(max(0.0, actual - amount), now)
        elif actual > 0:
            counter.window.count(actual, now)
        else:
            continue
        changed(counter, target, state, now, step)


def observe(
    said: tuple[Reported, ...],
    target: Target,
    newest_first: Iterable[Lease],
    *,
    started: float,
    now: float,
    state: State,
    step: Effects,
) -> None:
    """Take in what the provider says is left, less what later requests have taken since."""
    if not said:
        return
    later = [lease for lease in takewhile(lambda lease: lease.at > started, newest_first) if lease.target is target]
    for reported in said:
        if reported.of is None or reported.reset is None or reported.reset - now > state.policy.cooldown.longest:
            continue
        since = sum(foreseen(reported.of, lease.estimate) for lease in later)
        new = Snapshot(reported.of, reported.limit, reported.remaining, reported.reset, started, since, reported.span)
        held = target.snapshots.get(reported.name)
        if held is None and not _has_room(target, now):
            continue
        merged = target.snapshots[reported.name] = merge(held, new, now)
        if merged is not held:
            for lease in later:
                lease.noted[reported.name] = merged, foreseen(reported.of, lease.estimate)
    state.keep_snapshots(target, step)


def _has_room(target: Target, now: float) -> bool:
    """Whether there is room for one more of the provider's windows, of which those that have ended are forgotten."""
    if len(target.snapshots) >= SNAPSHOTS:
        target.snapshots = {name: s for name, s in target.snapshots.items() if now < s.resets_at}
    return len(target.snapshots) < SNAPSHOTS


def changed(counter: Counter, target: Target, state: State, now: float, step: Effects) -> None:
    """Follow up a change of a counter: warn once a window, plan the announcement of its end, keep it."""
    state.keep_counter(counter, step)
    if counter.key not in state.counters:
        return  # its limit has been taken out
    _warn(counter, target, state, now, step)
    if counter.planned is None:
        plan_end(counter, state, now)


def _warn(counter: Counter, target: Target, state: State, now: float, step: Effects) -> None:
    """Tell that a share has been reached which has not been told of this window."""
    limit = counter.limit
    share = counter.window.used(now) / limit.max
    if share >= counter.first_warning:
        start = counter.window.started(now) or 0.0
        told = counter.told[1] if counter.told[0] == start else 0.0
        reached = max((w for w in (*limit.warn_at, 1.0) if told < w <= share), default=None)
        if reached is not None:
            counter.told = (start, reached)
            step.notices.append(_warning(counter, target, state, now, exhausted=reached >= 1))


def judge_anew(counter: Counter, state: State, now: float, step: Effects) -> None:
    """Tell what is now true of a counter whose maximum has changed: it is used up, warned of, or has room again."""
    if counter.judged == counter.limit.max:
        return
    counter.judged, counter.planned = counter.limit.max, None
    before = counter.told
    used_up = before == (counter.window.started(now) or 0.0, 1)
    counter.told = (0.0, 0.0)
    target, *_ = state.behind(counter.key)
    _warn(counter, target, state, now, step)
    plan_end(counter, state, now)
    if counter.told != before:
        state.keep_counter(counter, step)
    if used_up and counter.fits(counter.amount(None), now):
        step.notices.append(_has_room_again(counter, state, now))


def plan_end(counter: Counter, state: State, now: float) -> None:
    """See to it that the end of a window is announced: of a rolling one only when it is full."""
    if counter.planned is not None:
        return
    window = counter.window
    if counter.told[1] and counter.told[0] != (window.started(now) or 0.0):
        counter.told = (0.0, 0.0)
    if counter.limit.window == "rolling":
        full = window.used(now) >= counter.limit.max
        at = window.free_at(counter.amount(None), counter.limit.max, now) if full else None
    else:
        at = None if window.empty(now) else window.resets_at(now)
    if at is not None:
        counter.planned = at
        state.plan(at, counter.key)


def announce_end(counter: Counter, state: State, now: float, step: Effects) -> None:
    """Tell that a planned window has ended, and that a provider is back if it had used it up."""
    if counter.planned is None or now < counter.planned:
        return
    counter.planned = None
    limit = counter.limit
    whose = state.behind(counter.key)
    whom, _ = name_providers(whose)
    name = whose[0].provider.id
    if limit.window != "rolling":
        text = f"{whom}: a new window of {stated(limit)} begins"
        step.notices.append(Notice("reset", now, text, provider=name, model=limit.model))
    if counter.told[1] == 1 and counter.fits(counter.amount(None), now):
        counter.told = (counter.told[0], _BACK)
        step.notices.append(_has_room_again(counter, state, now))
        state.keep_counter(counter, step)
    plan_end(counter, state, now)


def _has_room_again(counter: Counter, state: State, now: float) -> Notice:
    limit, whose = counter.limit, state.behind(counter.key)
    whom, its = name_providers(whose)
    text = f"{whom} may be used again: {its} limit per {limit.per}{of_model(limit)} has room"
    return Notice("recovered", now, text, provider=whose[0].provider.id, model=limit.model)


def _warning(counter: Counter, target: Target, state: State, now: float, *, exhausted: bool) -> Notice:
    limit, window = counter.limit, counter.window
    resets = window.resets_at(now)
    when = f", resets {clock(resets, now, state.policy.zone)}" if resets is not None else ""
    event: EventKind = "exhausted" if exhausted else "warning"
    name: str = target.provider.id
    reason: Literal["limit"] = "limit"
    text = f"{name} has used {plain(window.used(now), limit.of)} of {stated(limit)}{when}"
    return Notice(event, now, text, provider=name, model=limit.model, reason=reason, until=resets)
