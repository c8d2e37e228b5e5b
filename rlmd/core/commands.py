"""Commands of a person: reset, rest, enable, disable, pin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rlmd.core.model import Notice
from rlmd.core.state import Call
from rlmd.core.text import clock, known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.model import Effects
    from rlmd.core.state import State


class UnknownNameError(Exception):
    """A provider or model that the configuration does not name; the message lists those it does."""


def reset(state: State, what: Literal["counters", "cooldowns", "all"], provider: str | None, now: float) -> Effects:
    """Forget counts, cooldowns or both, of one provider (and its account) or of all.

    Requests under way keep what they have reserved. Raises `UnknownNameError`.
    """
    names = [provider] if provider is not None else list(state.targets)
    for name in names:
        _known(state, name)
    call = Call(state=state, now=now)
    for name in names:
        if what in {"counters", "all"}:
            _forget_counts(name, call)
        if what in {"cooldowns", "all"}:
            _forget_rests(name, call)
    freed = [name for name in names if what == "all" and _forget_order(name, call)]
    whose = provider or "all providers"
    text = f"{what if what != 'all' else 'counters and cooldowns'} of {whose} were reset by hand"
    for name in freed:
        enabled = next(p.enabled for p in state.policy.providers if p.id == name)
        text += f"; {name} is {'enabled' if enabled else 'disabled'} again, as the configuration says"
    call.tell(Notice("reset", now, text, provider=provider))
    return call


def rest(state: State, provider: str, model: str | None, until: float, reason: str | None, now: float) -> Effects:
    """Rest a provider, or one model of it (by either name), until a time. Raises `UnknownNameError`."""
    _known(state, provider)
    key = f"server:{provider}"
    if model is not None:
        target = state.find(provider, model)
        if target is None:
            raise UnknownNameError(f"{provider} serves no model {model!r}{known(model, state.targets[provider])}")
        key = f"model:{provider}/{target.model}"
    call = Call(state=state, now=now)
    why = reason or "by hand"
    state.breakers[key].order(until, why, now)
    call.keep_breaker(key)
    state.plan(until, key)
    what = provider if model is None else f"{provider}/{model}"
    text = f"{what} rests until {clock(until, now, state.policy.zone)} ({why})"
    call.tell(Notice("state", now, text, provider=provider, model=model, reason=why, until=until))
    return call


def enable(state: State, provider: str, now: float, *, enabled: bool) -> Effects:
    """Let a provider serve, or keep it out, whatever the configuration says. Raises `UnknownNameError`."""
    _known(state, provider)
    call = Call(state=state, now=now)
    totals = state.totals[provider]
    totals.override = enabled
    totals.configured = next(p.enabled for p in state.policy.providers if p.id == provider)
    call.keep_totals(provider)
    text = f"{provider} is {'enabled' if enabled else 'disabled'} by hand"
    call.tell(Notice("state", now, text, provider=provider))
    return call


def pin(state: State, provider: str | None, model: str | None, now: float) -> Effects:
    """Put a provider first for a canonical model or for all; None returns to automatic.

    Raises `UnknownNameError`.
    """
    if model is not None and model not in state.chains:
        raise UnknownNameError(f"no provider serves {model!r}{known(model, state.chains)}")
    call = Call(state=state, now=now)
    if provider is None:
        forgotten = list(state.pins) if model is None else [model]
        for name in forgotten:
            state.pins.pop(name, None)
        text = f"the choice of the provider is automatic again{f' for {model}' if model else ''}"
    else:
        _known(state, provider)
        if model is not None and model not in state.targets[provider]:
            raise UnknownNameError(f"{provider} serves no model {model!r}{known(model, state.targets[provider])}")
        state.pins[model or "*"] = provider
        _try_at_once(provider, model, call)
        call.keep_current(provider)
        text = f"{provider} is used first{f' for {model}' if model else ''} until you say otherwise"
    call.keep_pins()
    call.tell(Notice("state", now, text, provider=provider, model=model))
    return call


def _try_at_once(provider: str, model: str | None, call: Call) -> None:
    """Let the next request try whatever rests there: the person has just put it first."""
    for target in call.state.targets[provider].values():
        if model in {None, target.model}:
            for key, breaker in target.breakers:
                if breaker.pin(call.now):
                    call.keep_breaker(key)


def _forget_order(provider: str, call: Call) -> bool:
    """Forget that a provider was enabled or disabled by hand. True where it was."""
    totals = call.state.totals[provider]
    if totals.override is None:
        return False
    totals.override = totals.configured = None
    call.keep_totals(provider)
    return True


def _known(state: State, provider: str) -> None:
    if provider not in state.targets:
        raise UnknownNameError(f"there is no provider {provider!r}{known(provider, state.targets)}")


def _forget_counts(provider: str, call: Call) -> None:
    for target in call.state.targets[provider].values():
        for counter in target.counters:
            counter.window.forget(call.now)
            counter.last_warned, counter.planned = (0.0, 0.0), None
            call.keep_counter(counter)
        if target.snapshots:
            target.snapshots.clear()
            call.keep_snapshots(target)
    totals = call.state.totals[provider]
    totals.requests = totals.errors = 0
    call.keep_totals(provider)


def _forget_rests(provider: str, call: Call) -> None:
    targets = call.state.targets[provider].values()
    keys: Iterable[str] = dict.fromkeys(key for target in targets for key, _ in target.breakers)
    for key in keys:
        call.state.breakers[key].clear(call.now)
        call.keep_breaker(key)  # the disk may know of a rest that has ended since
