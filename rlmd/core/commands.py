"""What a person orders by hand: reset, rest, enable, disable, pin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rlmd.core.model import Notice, Step
from rlmd.core.text import clock, known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlmd.core.state import Book


class UnknownNameError(Exception):
    """A provider or model that the configuration does not name; the message lists those it does."""


def reset(book: Book, what: Literal["counters", "cooldowns", "all"], provider: str | None, now: float) -> Step:
    """Forget counts, cooldowns or both, of one provider (and its account) or of all.

    Requests under way keep what they have reserved. Raises `UnknownNameError`.
    """
    names = [provider] if provider is not None else list(book.targets)
    for name in names:
        _known(book, name)
    step = Step()
    for name in names:
        if what in {"counters", "all"}:
            _forget_counts(book, name, now, step)
        if what in {"cooldowns", "all"}:
            _forget_rests(book, name, now, step)
    freed = [name for name in names if what == "all" and _forget_order(book, name, step)]
    whose = provider or "all providers"
    text = f"{what if what != 'all' else 'counters and cooldowns'} of {whose} were reset by hand"
    for name in freed:
        enabled = next(p.enabled for p in book.policy.providers if p.id == name)
        text += f"; {name} is {'enabled' if enabled else 'disabled'} again, as the configuration says"
    step.notices.append(Notice("reset", now, text, provider=provider))
    return step


def rest(book: Book, provider: str, model: str | None, until: float, reason: str | None, now: float) -> Step:
    """Rest a provider, or one model of it (by either name), until a time. Raises `UnknownNameError`."""
    _known(book, provider)
    key = f"server:{provider}"
    if model is not None:
        target = book.find(provider, model)
        if target is None:
            raise UnknownNameError(f"{provider} serves no model {model!r}{known(model, book.targets[provider])}")
        key = f"model:{provider}/{target.model}"
    step = Step()
    why = reason or "by hand"
    book.breakers[key].order(until, why, now)
    book.keep_breaker(key, step)
    book.plan(until, key)
    what = provider if model is None else f"{provider}/{model}"
    text = f"{what} rests until {clock(until, now, book.policy.zone)} ({why})"
    step.notices.append(Notice("state", now, text, provider=provider, model=model, reason=why, until=until))
    return step


def enable(book: Book, provider: str, now: float, *, enabled: bool) -> Step:
    """Let a provider serve, or keep it out, whatever the configuration says. Raises `UnknownNameError`."""
    _known(book, provider)
    step = Step()
    tally = book.tallies[provider]
    tally.override = enabled
    tally.configured = next(p.enabled for p in book.policy.providers if p.id == provider)
    book.keep_tally(provider, step)
    text = f"{provider} is {'enabled' if enabled else 'disabled'} by hand"
    step.notices.append(Notice("state", now, text, provider=provider))
    return step


def pin(book: Book, provider: str | None, model: str | None, now: float) -> Step:
    """Put a provider first for a canonical model or for all; None returns to automatic.

    Raises `UnknownNameError`.
    """
    if model is not None and model not in book.chains:
        raise UnknownNameError(f"no provider serves {model!r}{known(model, book.chains)}")
    step = Step()
    if provider is None:
        forgotten = list(book.pins) if model is None else [model]
        for name in forgotten:
            book.pins.pop(name, None)
        text = f"the choice of the provider is automatic again{f' for {model}' if model else ''}"
    else:
        _known(book, provider)
        if model is not None and model not in book.targets[provider]:
            raise UnknownNameError(f"{provider} serves no model {model!r}{known(model, book.targets[provider])}")
        book.pins[model or "*"] = provider
        _try_at_once(book, provider, model, now, step)
        book.keep_current(provider, step)
        text = f"{provider} is used first{f' for {model}' if model else ''} until you say otherwise"
    step.facts["setting", "pins"] = lambda: book.pins
    step.notices.append(Notice("state", now, text, provider=provider, model=model))
    return step


def _try_at_once(book: Book, provider: str, model: str | None, now: float, step: Step) -> None:
    """Let the next request try whatever rests there: the person has just put it first."""
    for target in book.targets[provider].values():
        if model in {None, target.model}:
            for key, breaker in target.breakers:
                if breaker.pin(now):
                    book.keep_breaker(key, step)


def _forget_order(book: Book, provider: str, step: Step) -> bool:
    """Forget that a provider was enabled or disabled by hand. True where it was."""
    tally = book.tallies[provider]
    if tally.override is None:
        return False
    tally.override = tally.configured = None
    book.keep_tally(provider, step)
    return True


def _known(book: Book, provider: str) -> None:
    if provider not in book.targets:
        raise UnknownNameError(f"there is no provider {provider!r}{known(provider, book.targets)}")


def _forget_counts(book: Book, provider: str, now: float, step: Step) -> None:
    for target in book.targets[provider].values():
        for counter in target.counters:
            counter.window.forget(now)
            counter.told, counter.planned = (0.0, 0.0), None
            book.keep_counter(counter, step)
        if target.snapshots:
            target.snapshots.clear()
            book.keep_snapshots(target, step)
    tally = book.tallies[provider]
    tally.requests = tally.errors = 0
    book.keep_tally(provider, step)


def _forget_rests(book: Book, provider: str, now: float, step: Step) -> None:
    targets = book.targets[provider].values()
    keys: Iterable[str] = dict.fromkeys(key for target in targets for key, _ in target.breakers)
    for key in keys:
        book.breakers[key].clear(now)
        book.keep_breaker(key, step)  # the disk may know of a rest that has ended since
