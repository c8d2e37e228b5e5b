"""What is known, told to people and scripts: `status`, its text form, `explain`. Reads the ledger, changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rlmd.config.durations import span
from rlmd.core.commands import UnknownNameError
from rlmd.core.route import Ask, refuse
from rlmd.core.text import clock, known
from rlmd.wire import messages
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import Provider, Refusal
    from rlmd.core.target import Counter, Target


def providers(ledger: Ledger, now: float) -> list[messages.ProviderInfo]:
    """Describe every configured provider, in the order of the configuration."""
    return [_provider(ledger, provider, now) for provider in ledger.state.policy.providers]


def model_mapping(ledger: Ledger) -> dict[str, list[str]]:
    """Name the providers of each canonical model, best priority first; fallbacks are not among them."""
    return {
        model: [t.provider.id for t in chain.targets if t.model == model]
        for model, chain in sorted(ledger.state.chains.items())
    }


def text(infos: Sequence[messages.ProviderInfo], current: str | None, zone: tzinfo | None) -> str:
    """Write the status in the form that the replaced plugin printed, which people and scripts know."""
    lines = ["=== Rate Limit Manager Status ===", ""]
    for info in infos:
        lines.append(f"{info.id}: {'✓ Available' if info.available else '✗ Unavailable'}")
        lines.append(f"  Models: {', '.join(info.models)}")
        limit = _request_limit(info)
        lines.append(f"  Requests: {info.request_count}{f'/{limit.max:.0f}' if limit else ''}")
        if info.until is not None and not info.available:
            lines.append(f"  Cooldown until: {_american(info.until, zone)}")
        lines.append("")
    lines.append(f"Current Provider: {current or 'none'}")
    return "\n".join(lines)


def line(infos: Sequence[messages.ProviderInfo], now: float, zone: tzinfo | None) -> str:
    """Write in one line who is available, and until when the others are not."""
    if not infos:
        return "no provider is configured: rlmctl setup"
    away = [info for info in infos if not info.available]
    told = [f"{len(infos) - len(away)} of {len(infos)} providers available"]
    for info in away:
        until = None if info.until is None else datetime.fromisoformat(info.until).timestamp()
        told.append(f"{info.id} {info.reason if until is None else f'until {clock(until, now, zone)}'}")
    return "; ".join(told)


def explained(
    ledger: Ledger, model: str, session: str | None, now: float, id_: messages.Id = None
) -> messages.Explained:
    """Explain the decision on a canonical model. Raises `UnknownNameError` where nobody serves it."""
    found = ledger.explain(model, session, now)
    if found is None:
        raise UnknownNameError(f"no provider serves {model!r}{known(model, ledger.state.chains)}")
    ask, ordered, choice = found
    candidates = []
    for target in ordered:
        refusal = refuse(target, ask, now, ledger.state.policy.zone)
        taken = target is choice.target
        candidates.append(
            messages.ExplainedCandidate(
                provider=target.provider.id,
                model=target.offer.name,
                state=refusal.state if refusal else "closed",
                taken=taken,
                until=_stamp(refusal.until) if refusal else None,
                why=_why(target, refusal, ask, ordered[0], taken=taken, decided=choice.target is not None),
                limits=[_limit(c, now) for c in target.counters],
            )
        )
    winner = choice.target
    zone = ledger.state.policy.zone
    when = ", and waiting will not help" if choice.retry_at is None else f" before {clock(choice.retry_at, now, zone)}"
    return messages.Explained(
        id=id_,
        model=model,
        decision="use" if winner else "wait",
        retry_at=None if winner else _stamp(choice.retry_at),
        message=f"the next request goes to {winner.provider.id}" if winner else f"nobody can serve {model}{when}",
        candidates=candidates,
    )


def _why(target: Target, refusal: Refusal | None, ask: Ask, first: Target, *, taken: bool, decided: bool) -> str:
    name = target.provider.id
    if refusal is not None:
        if not taken:
            return refusal.why
        return f"{name} is tried although it {refusal.why.removeprefix(f'{name} ')}: nobody answers"
    if taken:
        if name == ask.pin:
            return f"{name} is pinned"
        if name == ask.sticky:
            return f"{name} is where this session is"
        return f"{name} comes {'first' if target is first else 'next'}: priority {target.provider.priority}"
    if name in ask.failed:
        return f"{name} failed in this turn"
    return f"{name} could serve; an earlier one is {'taken' if decided else 'nearly back'}"


def _provider(ledger: Ledger, provider: Provider, now: float) -> messages.ProviderInfo:
    state = ledger.state
    targets = list(state.targets[provider.id].values())
    refused = [(t, r) for t in targets if (r := refuse(t, Ask(provider.id, t.model), now, state.policy.zone))]
    available = len(refused) < len(targets)
    worst = None if available else min((r for _, r in refused), key=lambda r: r.until or float("inf"))
    counters = {c.key: c for t in targets for c in t.counters}
    limits = [_limit(c, now) for c in counters.values()]
    totals = state.totals[provider.id]
    info = messages.ProviderInfo(
        id=provider.id,
        priority=provider.priority,
        enabled=targets[0].enabled if targets else provider.enabled,
        available=available,
        state=worst.state if worst else "closed",
        until=_stamp(worst.until) if worst else None,
        reason=worst.reason if worst else None,
        models=list(provider.models),
        request_count=totals.requests,
        error_count=totals.errors,
        in_flight=totals.in_flight,
        limits=limits + [s for t in targets for s in _snapshots(t, now)],
        account=provider.account,
        blocked=[
            messages.Blocked(model=t.model, state=r.state, until=_stamp(r.until), reason=r.reason)
            for t, r in refused
            if available
        ],
    )
    if limit := _request_limit(info):
        info.request_count = int(limit.used)
    return info


def _request_limit(info: messages.ProviderInfo) -> messages.LimitInfo | None:
    """Pick the limit whose count stands for the provider: the hourly one on requests, else the first on them."""
    own = [limit for limit in info.limits if limit.of == "requests" and limit.source == "config"]
    return next((limit for limit in own if limit.per == "1h"), own[0] if own else None)


def _limit(counter: Counter, now: float) -> messages.LimitInfo:
    limit, window = counter.limit, counter.window
    info = messages.LimitInfo(
        of=limit.of,
        per=limit.per,
        window=limit.window,
        max=_plain(limit.max),
        used=_plain(window.used(now)),
        reserved=_plain(window.reserved(now)),
        resets_at=_stamp(window.resets_at(now)),
        source="config",
    )
    if limit.model is not None:
        info.model = limit.model
    return info


def _snapshots(target: Target, now: float) -> list[messages.LimitInfo]:
    return [
        messages.LimitInfo(
            of=snapshot.of,
            per=span(snapshot.span) if snapshot.span and snapshot.span % 1 == 0 else None,
            window=None,
            max=_plain(snapshot.limit),
            used=_plain(snapshot.used()),
            reserved=0,
            resets_at=_stamp(snapshot.resets_at),
            source="provider",
            model=target.model,
        )
        for snapshot in target.snapshots.values()
        if now < snapshot.resets_at
    ]


def _plain(number: float) -> messages.Number:
    """Write whole numbers as such: 50, not 50.0."""
    return int(number) if number == int(number) else number


def _stamp(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


def _american(stamp: str, zone: tzinfo | None) -> str:
    """Write a time as that plugin did: `1/12/2026, 5:30:00 PM`, local."""
    at = datetime.fromisoformat(stamp).astimezone(zone or UTC)
    hour = at.hour % 12 or 12
    return f"{at.month}/{at.day}/{at.year}, {hour}:{at:%M:%S} {'AM' if at.hour < 12 else 'PM'}"  # noqa: PLR2004  (noon)
