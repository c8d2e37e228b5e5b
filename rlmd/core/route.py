"""Who is next: candidates in order, and for each one that is passed over, why and until when.

The cost of a decision depends on the candidates of one model, on nothing else. Nothing here changes what it
reads: the ledger acts on what is decided.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from rlmd.core.model import Policy, Reason, Refusal, Use, Wait
from rlmd.core.target import Chain, Target, foreseen
from rlmd.core.text import clock, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from rlmd.core.breaker import Breaker


class Ask(Struct, frozen=True):
    """What a decision depends on beside the state of the candidates."""

    provider: str
    """What the agent asked for; it need not be a candidate."""
    model: str
    """Canonical."""
    pin: str | None = None
    sticky: str | None = None
    """The session's own provider, while it is to stay there."""
    own: str | None = None
    """The session's own provider, also where it may leave it: that one is waited for a moment."""
    failed: Collection[str] = ()
    """Providers that failed in this turn."""
    estimate: int | None = None
    early: bool = False
    """May try a long block before its end."""
    beyond: int | None = None
    """Only places that take more tokens than this: the request was too long for one that takes so many."""
    silent: bool = False
    """A rest because nothing answered holds the request back from nobody."""


class Choice(Struct, frozen=True):
    """The target that serves, or None; and those passed over, in order."""

    target: Target | None
    refusals: tuple[Refusal, ...] = ()
    retry_at: float | None = None
    probes: bool = False
    patient: bool = False
    """Nobody was taken because the last one refused is nearly back."""


def refuse(target: Target, ask: Ask, now: float, zone: tzinfo | None) -> Refusal | None:
    """Say why a request cannot go there now and from when it may; None: it can."""
    context = target.offer.context
    if ask.beyond is not None and (context is None or context <= ask.beyond):
        return _refusal(target, "closed", None, "context", "has no larger context window")
    if context is not None and ask.estimate is not None and ask.estimate > context:
        return _refusal(target, "closed", None, "context", f"takes at most {context:,} tokens a request")
    if not target.enabled:
        why = f"is disabled (rlmctl enable {target.provider.id})"
        return _refusal(target, "disabled", None, "disabled", why)
    resting, until = _resting(target, ask, now)
    full = _full(target, ask.estimate, now)
    if full is not None:
        room_at, why = full
        if room_at is None:
            return _refusal(target, "exhausted", None, "limit", why)
        if room_at > until:
            return _refusal(target, "exhausted", room_at, "limit", f"{why} until {clock(room_at, now, zone)}")
    if resting is None:
        return None
    if resting.state(now) == "half_open":
        why = "is being tried by another request"
        return _refusal(target, "half_open", until, "cooldown", why, resting.reason)
    why = f"is cooling down until {clock(resting.until, now, zone)} ({resting.reason})"
    if until < resting.until:
        why += f" and may be tried at {clock(until, now, zone)}"
    return _refusal(target, "open", until, "cooldown", why, resting.reason)


def _resting(target: Target, ask: Ask, now: float) -> tuple[Breaker | None, float]:
    """Which breaker keeps a request off longest, and until when; `now` where none does."""
    resting, until = None, now
    early = ask.early or target.provider.id == ask.pin
    for _, breaker in target.breakers:
        if breaker.opened and not (ask.silent and breaker.silent):
            at = breaker.free_at(now, early=early)
            if at > until:
                resting, until = breaker, at
    return resting, until


def _full(target: Target, estimate: int | None, now: float) -> tuple[float | None, str] | None:
    """When every limit has room again (None: never) and what says so longest; None if all have room now."""
    longest: tuple[float, str] | None = None
    for counter in target.counters:
        amount, of = counter.amount(estimate), counter.limit.of
        if counter.room(amount, now):
            continue
        at = counter.free_at(amount, now)
        if at is None:
            return None, f"never takes {plain(amount, of)} at once: its limit is {counter.stated}"
        if longest is None or at > longest[0]:
            over = f" and this takes {plain(amount, of)}" if counter.room(0.0, now) else ""
            longest = at, f"has used {plain(counter.window.load(now), of)} of {counter.stated}{over}"
    for snapshot in target.snapshots.values():
        at = snapshot.free_at(foreseen(snapshot.of, estimate), now)
        if at is not None and (longest is None or at > longest[0]):
            few = "only " + plain(snapshot.left(), snapshot.of) if snapshot.left() > 0 else "no"
            longest = at, f"says that {few} {snapshot.of.replace('_', ' ')} are left"
    return longest


def _refusal(
    target: Target,
    state: Literal["closed", "open", "half_open", "exhausted", "disabled"],
    until: float | None,
    cause: Literal["cooldown", "limit", "disabled", "context", "failed"],
    why: str,
    reason: str | None = None,
) -> Refusal:
    provider = target.provider.id
    return Refusal(provider, target.offer.name, state, until, cause, reason or cause, f"{provider} {why}")


def in_order(chain: Chain, policy: Policy, ask: Ask, now: float) -> Sequence[Target]:
    """Sort the candidates of a model and of its fallbacks: who is tried first."""
    by_headroom = policy.strategy == "headroom"
    by_agent = policy.prefer == "agent"
    if chain.distinct and not (ask.pin or by_headroom or by_agent):
        return chain.beginning_with(ask.sticky)
    place = chain.places
    return sorted(
        chain.targets,
        key=lambda t: (
            place[t.model],
            t.provider.id != ask.pin,
            t.provider.id != ask.sticky,
            by_agent and t.provider.id != ask.provider,
            -t.headroom(now) if by_headroom else t.provider.priority,
            t.totals.in_flight,
            t.provider.id,
        ),
    )


def choose(chain: Chain, policy: Policy, ask: Ask, now: float) -> Choice:
    """Pick the first candidate in order that may serve now, or say when one may if nothing else happens.

    A provider that failed in this turn is taken only as the last one. Where the session's own one (in a new
    session: the first) is back within `patience`, nobody is taken: waiting a moment is cheaper than moving a
    conversation.
    """
    choice = _choose(chain, policy, ask, now)
    if choice.target is None and not choice.patient:
        # Offline is not limited: where nobody else is left, a rest because nothing answered holds nobody back.
        offline = _choose(chain, policy, replace(ask, silent=True), now)
        if offline.target is not None:
            return offline
    retry_at = choice.retry_at
    if retry_at is None or not (choice.patient or _is_followed_closely(retry_at, choice.refusals, policy.patience)):
        return choice
    # By then the turn may have ended, and another one that is nearly back may be worth the wait.
    later = replace(ask, sticky=ask.own, failed=())
    while (then := _choose(chain, policy, later, retry_at)).retry_at is not None and then.retry_at > retry_at:
        retry_at = then.retry_at
    return replace(choice, retry_at=retry_at)


def _is_followed_closely(at: float, refusals: Sequence[Refusal], patience: float) -> bool:
    """Whether another one is back so soon after this time that patience would wait for it then."""
    return any(r.until is not None and at < r.until <= at + patience for r in refusals)


def _choose(chain: Chain, policy: Policy, ask: Ask, now: float) -> Choice:
    refusals: list[Refusal] = []
    spare: Target | None = None
    own_seen = False
    for target in in_order(chain, policy, ask, now):
        refusal = refuse(target, ask, now, policy.zone)
        has_failed = target.provider.id in ask.failed
        if refusal is None and not has_failed:
            return _take(target, refusals)
        if refusal is None:
            spare = spare or target
            refusal = _refusal(target, "closed", now, "failed", "failed in this turn")
        refusals.append(refusal)
        if own_seen or refusal.cause in {"disabled", "context"} or ask.own not in {None, target.provider.id}:
            continue
        own_seen = True
        if not has_failed and refusal.until is not None and refusal.until <= now + policy.patience:
            return Choice(None, tuple(refusals), refusal.until, patient=True)
    if spare is not None:
        return _take(spare, [r for r in refusals if r.cause != "failed"])
    return Choice(None, tuple(refusals), min((r.until for r in refusals if r.until is not None), default=None))


def _take(target: Target, refusals: list[Refusal]) -> Choice:
    probes = False
    for _, breaker in target.breakers:
        probes = probes or breaker.opened
    return Choice(target, tuple(refusals), probes=probes)


def as_use(choice: Choice, ask: Ask, lease: str | None, *, lost: Refusal | None = None, held_back: bool = False) -> Use:
    """Say who won and why.

    `lost` is why the one that was asked for cannot serve, where choosing did not come to look at it;
    `held_back` says that the session stays where it is although another one comes first in order.
    """
    target = choice.target
    if target is None:
        raise ValueError("nobody was chosen")
    provider = target.provider.id
    switched = provider != ask.provider or target.model != ask.model
    if lost is None and choice.refusals:
        lost = next((r for r in choice.refusals if r.provider == ask.provider), None)
    reason: Reason
    if choice.probes:
        reason = "probe"
    elif target.model != ask.model:
        reason = "fallback_model"
    elif provider == ask.pin:
        reason = "pinned"
    elif lost is not None:
        reason = _LOST_BY[lost.cause]
    elif held_back:
        reason = "sticky"
    else:
        reason = "preferred"
    because = lost or (choice.refusals[0] if choice.refusals else None)
    using = f"using {provider}" if target.model == ask.model else f"using {provider} with {target.model}"
    message = f"{because.why}; {using}" if switched and because else using
    return Use(provider, target.offer.name, switched, reason, message, lease)


_LOST_BY: dict[str, Reason] = {
    "cooldown": "cooldown",
    "failed": "cooldown",
    "limit": "limit",
    "context": "limit",
    "disabled": "disabled",
}


def as_wait(choice: Choice, ask: Ask, now: float, zone: tzinfo | None) -> Wait:
    """Say from when somebody may serve, and what keeps each candidate."""
    brief = "; ".join(_briefly(r, now, zone) for r in choice.refusals)
    if choice.patient and choice.retry_at is not None:
        own = choice.refusals[-1]
        message = f"waiting for {own.provider} until {clock(choice.retry_at, now, zone)}: {own.why}"
        return Wait(choice.retry_at, message, choice.refusals, brief, patient=True)
    reasons = "; ".join(r.why for r in choice.refusals)
    if choice.retry_at is None:
        message = f"no provider of {ask.model} can serve this request, and waiting will not help: {reasons}"
    else:
        message = f"no provider of {ask.model} until {clock(choice.retry_at, now, zone)}: {reasons}"
    return Wait(choice.retry_at, message, choice.refusals, brief)


def _briefly(refusal: Refusal, now: float, zone: tzinfo | None) -> str:
    state = "cannot take this" if refusal.until is None else f"rests until {clock(refusal.until, now, zone)}"
    return f"{refusal.provider}/{refusal.model} {'is disabled' if refusal.state == 'disabled' else state}"
