"""Imports another program's counters and cooldowns. Values only raise ours, so importing twice changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from rlmd.core import usage
from rlmd.core.calendar import seconds
from rlmd.core.model import DAY, HOUR, Effects, Notice
from rlmd.core.state import Call
from rlmd.core.text import clock, counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.state import State
    from rlmd.core.target import Counter, Target

LONGEST = 366 * DAY
"""Seconds that a cooldown may last, as by hand."""


class Found(Struct, frozen=True):
    """What that program knew of one provider."""

    provider: str
    requests: int = 0
    """In the hour that runs."""
    errors: int = 0
    until: float | None = None
    """It rests until then."""


class Adoption(Struct):
    """What was imported and what was left out, a sentence each."""

    effects: Effects
    taken: list[str] = []
    left: list[str] = []


def adopt(state: State, found: Iterable[Found], current: str | None, now: float) -> Adoption:
    """Raise each counter of an hour or more to the requests that were found, and take over the cooldowns."""
    call = Call(state=state, now=now)
    made = Adoption(call)
    wanted: dict[str, tuple[Counter, Target, float]] = {}
    for one in found:
        targets = state.targets.get(one.provider)
        if not targets:
            made.left.append(f"{one.provider} is not in the configuration")
            continue
        for counter, target in _counters(targets.values()).values():
            _, _, others = wanted.get(counter.key, (counter, target, 0.0))
            wanted[counter.key] = counter, target, others + one.requests  # providers of one account add up
        totals = state.totals[one.provider]
        totals.requests, totals.errors = max(totals.requests, one.requests), max(totals.errors, one.errors)
        call.keep_totals(one.provider)
        if one.requests or one.errors:
            counts = f"{counted(one.requests, 'request')} in the hour that runs, {counted(one.errors, 'error')}"
            made.taken.append(f"{one.provider}: {counts}")
        if one.until is not None:
            _rest(one.provider, one.until, call, made)
    for counter, target, amount in wanted.values():
        missing = amount - counter.window.used(now)
        if missing > 0:
            counter.window.count(missing, now)
            usage.changed(counter, target, call)
    if current in state.targets and state.current is None:
        call.keep_current(current)
        made.taken.append(f"{current} was used last")
    elif current in state.targets and current != state.current:
        made.left.append(f"{current} as the current provider; to put it first: rlmctl use {current}")
    if made.taken:
        call.tell(Notice("state", now, f"taken over by an import: {'; '.join(made.taken)}"))
    return made


def _counters(targets: Iterable[Target]) -> dict[str, tuple[Counter, Target]]:
    """Find the counters of requests of any model whose window holds all of this hour."""
    return {
        counter.key: (counter, target)
        for target in targets
        for counter in target.counters
        if counter.counts_requests
        and counter.limit.model is None
        and (counter.limit.per == "month" or seconds(counter.limit.per) >= HOUR)
    }


def _rest(provider: str, until: float, call: Call, made: Adoption) -> None:
    state, now = call.state, call.now
    key = f"server:{provider}"
    breaker = state.breakers[key]
    if until <= now:
        made.left.append(f"{provider}: its cooldown is over since {clock(until, now, state.policy.zone)}")
    elif until - now > LONGEST:
        made.left.append(f"{provider}: a cooldown of more than a year")
    else:
        if breaker.free_at(now) < until:
            breaker.order(until, "imported", now)
            call.keep_breaker(key)
            state.plan(until, key)
        made.taken.append(f"{provider} rests until {clock(until, now, state.policy.zone)}")
