"""Breakers of a target: how an outcome changes them, and which notices follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmd.core import observed_limits
from rlmd.core.model import Allowance, EventKind, Kind, Notice, Verdict
from rlmd.core.target import name_providers
from rlmd.core.text import clock

if TYPE_CHECKING:
    from rlmd.core.requests import Report
    from rlmd.core.state import Call
    from rlmd.core.target import Target

BLOCKS: frozenset[Kind] = frozenset({"throttle", "quota", "credits", "overloaded", "transient", "unreachable"})
"""Kinds that may begin a cooldown of their scope."""

ROUTES_AWAY: frozenset[Kind] = BLOCKS | {"model_missing", "context"}
"""Kinds after which another provider may do better with the same request."""


def sample(target: Target, started: float, now: float) -> None:
    """Note a good answer: the breaker of the server weighs failures against all results."""
    server = target.breakers[0][1]
    if not server.is_late(started, now):
        server.sample(now, failed=False)


def heard(target: Target, call: Call) -> None:
    """Note that a provider answers.

    If its last request got no answer, the network was gone and is back: all cooldowns that began because nothing
    answered end. If only other providers got no answer, the failure is theirs, and their cooldowns go on.
    """
    if target.breakers[0][0] not in call.state.unanswered:
        return
    name = target.provider.id
    for key in call.state.unanswered:
        if not call.state.breakers[key].heard(call.now):
            continue
        call.keep_breaker(key)
        back = key.partition(":")[2]
        text = f"{name} answers again" if back == name else f"{back} may be used again: {name} answers"
        call.tell(Notice("state", call.now, text, provider=back, reason="closed"))
    call.state.unanswered.clear()


def passed(target: Target, lease: str | None, started: float, call: Call) -> None:
    """Take in a good answer: a probe that passed closes its breaker."""
    closed = False
    if call.state.unusable:
        call.state.unusable -= {target.key, target.provider.id}
    for key, breaker in target.breakers:
        if breaker.opened and breaker.passed(lease, started, call.now):
            call.keep_breaker(key)
            closed = True
    if closed:
        name = target.provider.id
        text = f"{name} answers again"
        call.tell(Notice("state", call.now, text, provider=name, model=target.model, reason="closed"))


def failed(
    target: Target,
    verdict: Verdict,
    report: Report,
    call: Call,
    *,
    started: float,
    rand: float,
    silent: bool,
) -> Verdict:
    """Begin the cooldown that the verdict asks for, and return the verdict with the end of that cooldown.

    `silent`: nothing answered the request.
    A probe that failed for another reason than its breaker's says nothing of the breaker: the next request tries.
    """
    now = call.now
    if verdict.kind in {"auth", "model_missing"}:
        what = target.provider.id if verdict.kind == "auth" else target.key
        if what not in call.state.unusable:
            call.state.unusable.add(what)
            call.tell(_unusable(target, verdict, now))
    if silent:
        call.state.unanswered.add(target.breakers[0][0])
    until: float | None = None
    for key, breaker in target.breakers:
        if verdict.kind not in BLOCKS or key.partition(":")[0] != verdict.scope:
            if report.lease is not None and breaker.missed(report.lease, now):
                call.keep_breaker(key)
            continue
        is_told = breaker.state(now) == "open" or (silent and breaker.silent)
        window_end = _used_up_until(target, now) if verdict.kind == "quota" else None
        if breaker.failed(
            verdict,
            lease=report.lease,
            started=started,
            now=now,
            cooldown=call.state.policy.cooldown,
            rand=rand,
            window_end=window_end,
            silent=silent,
        ):
            call.keep_breaker(key)
            call.state.plan(breaker.until, key)
        if breaker.state(now) == "open":
            until = breaker.until
            if not is_told:
                call.tell(_resting(target, verdict, until, report, call))
    return Verdict(verdict.kind, verdict.scope, verdict.hint, until)


def announce_end(key: str, at: float, call: Call) -> None:
    """Announce the end of a cooldown, unless another end has been set since this one was planned."""
    breaker = call.state.breakers[key]
    if breaker.silent:
        return  # nobody knows whether anything answers now
    if breaker.until == at and breaker.state(call.now) == "half_open":
        whose = call.state.behind(key)
        if not whose:
            return
        first, model = whose[0], whose[0].model if key.startswith("model:") else None
        whom, its = name_providers(whose) if model is None else (first.key, "its")
        text = f"{whom} may be used again: {its} cooldown is over"
        call.tell(Notice("recovered", call.now, text, provider=first.provider.id, model=model))


def _used_up_until(target: Target, now: float) -> float | None:
    """Return when the last of the target's used-up windows ends."""
    used_up = [c.window for c in target.counters if not c.room(0.0, now)]
    ends = [window.resets_at(now) for window in used_up]
    return max((end for end in ends if end is not None), default=None)


def _resting(target: Target, verdict: Verdict, until: float, report: Report, call: Call) -> Notice:
    now, name = call.now, target.provider.id
    shown: Allowance | None = None
    if verdict.kind in {"throttle", "quota"}:
        from rlmd.core.errors.failure import sentence  # noqa: PLC0415  (its patterns would be a tenth of the start)

        said = sentence(report.status, report.headers, report.body, report.message)
        shown = observed_limits.read(target, verdict, said, now)
    what = f"{name}/{target.model}" if verdict.scope == "model" else name
    event: EventKind = "exhausted" if verdict.kind in {"quota", "credits"} else "state"
    money = ": its credits are used up" if verdict.kind == "credits" else ""
    text = f"{what} is cooling down until {clock(until, now, call.state.policy.zone)} ({verdict.kind}){money}"
    return Notice(
        event, now, text, provider=name, model=target.model, reason=verdict.kind, until=until, allowance=shown
    )


def _unusable(target: Target, verdict: Verdict, now: float) -> Notice:
    name = target.provider.id
    if verdict.kind == "auth":
        text = f"{name} refuses the key: waiting will not mend that; log in to {name} again in your agent"
        return Notice("auth", now, text, provider=name, reason="auth")
    text = (
        f"{name} does not know the model {target.offer.name!r}: "
        f"mend its name under the models of {name} in the configuration (rlmctl config path)"
    )
    return Notice("warning", now, text, provider=name, model=target.model, reason="model_missing")
