"""What a failed request means: status, headers, body and message in, a verdict out. Pure, and it never raises.

A person's patterns come first, then the rows for one provider, then those for everybody, then what the status
says by itself. The rows are in `rules.py`, the reading of the answer in `fault.py`, the wait in `hints.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rlmd.core.errors import phrases, rules
from rlmd.core.errors.failure import Fault, read
from rlmd.core.errors.headers import asked, policy_window
from rlmd.core.model import DAY, HOUR, Kind, Pattern, Scope, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlmd.core.errors.rules import Rule

_PACIFIC = ZoneInfo("America/Los_Angeles")
"""Google's days end here (ai.google.dev/gemini-api/docs/rate-limits)."""
_GOOGLE = re.compile(r"^resource_exhausted$", re.MULTILINE)

_COOLING = frozenset({"throttle", "quota", "credits", "overloaded", "transient"})
"""Kinds for which the provider's wait means something."""
_SPOKEN_STATUS = frozenset({0, 402, 403, 429})
"""Other refusals of a request quote it; what is in quotes there is the person's text, not the provider's."""
_PER_MODEL_STATUS = frozenset({429, 498})

_PERSONAL: dict[str, tuple[Kind, Scope]] = {
    "throttle": ("throttle", "model"),
    "quota": ("quota", "account"),
    "credits": ("credits", "account"),
    "overloaded": ("overloaded", "server"),
    "auth": ("auth", "account"),
    "ignore": ("client", "none"),
}


def classify(
    provider: str,
    status: int | None,
    headers: Mapping[str, str],
    body: str,
    message: str,
    now: float,
    *,
    patterns: Sequence[Pattern] = (),
    longest: float = 8 * DAY,
) -> Verdict:
    """Say what the answer of `provider` (the person's own id for it) at `now` (epoch seconds) means.

    `status` is None where no answer came. `hint` is what the provider asked for, in seconds from `now`, never more
    than `longest`; jitter and blocks are the caller's.
    """
    fault = read(status, headers, body, message)
    if fault is None:
        return Verdict("ok")
    wait = asked(fault, now)
    for pattern in patterns:
        if pattern.provider in {None, provider} and pattern.match.matches(fault.raw):
            kind, scope = _PERSONAL[pattern.kind]
            return Verdict(kind, scope, hint=_cut(wait or pattern.lasts, longest) if kind != "client" else None)
    if _is_unreachable(status, fault):
        return Verdict("unreachable", "server")
    kind, scope = _judge(provider.lower(), fault, wait)
    if kind == "quota" and (wait or 0) < HOUR and _GOOGLE.search(fault.codes) and phrases.DAILY.search(fault.text):
        # RetryInfo speaks of the minute, whatever the quota (gemini-rpd-429-short-delay).
        wait = _pacific_midnight(now) - now
    return Verdict(kind, scope, hint=_cut(wait, longest) if kind in _COOLING else None)


def _is_unreachable(status: int | None, fault: Fault) -> bool:
    """Tell whether no answer came at all. What a gateway says of the host behind it is an answer."""
    if (status is not None and status > 0) or fault.status or fault.structured:
        return False
    return phrases.UNREACHABLE.search(fault.raw) is not None


def _cut(wait: float | None, longest: float) -> float | None:
    return None if wait is None or wait <= 0 else min(wait, longest)


def _pacific_midnight(now: float) -> float:
    tomorrow = (datetime.fromtimestamp(now, UTC).astimezone(_PACIFIC) + timedelta(days=1)).date()
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=_PACIFIC).timestamp()


def _judge(provider: str, fault: Fault, wait: float | None) -> tuple[Kind, Scope]:
    text = fault.text if fault.status in _SPOKEN_STATUS else phrases.QUOTED.sub(" ", fault.text)
    window = _window(text, fault)
    for rule in chain(rules.PROVIDER_RULES, rules.GENERAL_RULES):
        if _holds(rule, provider, fault, text, window, wait):
            return rule.kind, rule.scope or _scope(rule.kind, provider, fault, text)
    if fault.status >= 500 or (fault.status == 0 and not phrases.REQUEST_CODE.search(fault.codes)):  # noqa: PLR2004
        return "transient", "server"
    return "client", "none"


def _window(text: str, fault: Fault) -> str | None:
    """Whether the limit that was hit counts up to minutes (`short`) or an hour and more (`long`), if anything tells."""
    if named := phrases.WINDOW.search(text) or phrases.WINDOW.search(fault.codes):
        return named.lastgroup
    span = policy_window(fault.headers)
    return None if span is None else "long" if span >= HOUR else "short"


def _holds(rule: Rule, provider: str, fault: Fault, text: str, window: str | None, wait: float | None) -> bool:
    return (
        (rule.status is None or fault.status in rule.status)
        and (rule.window is None or rule.window == window)
        and (rule.wait is None or (wait is not None and wait >= rule.wait))
        and (rule.who is None or rule.who.search(provider) is not None)
        and (rule.code is None or rule.code.search(fault.codes) is not None)
        and (rule.says is None or rule.says.search(text) is not None)
    )


def _scope(kind: Kind, provider: str, fault: Fault, text: str) -> Scope:
    """Who is affected, where the row leaves it to the error: what it names, else what the provider counts."""
    if kind != "overloaded" and phrases.UPSTREAM.search(text):
        return "model"
    if kind == "credits":
        return "account"
    if phrases.A_MODEL.search(text) or (_GOOGLE.search(fault.codes) and any(key == "model" for key, _ in fault.facts)):
        return "model"
    match kind:
        case "overloaded":
            of_one = fault.status in _PER_MODEL_STATUS or phrases.MODEL_CODE.search(fault.codes)
            return "model" if of_one else "server"
        case "quota":
            of_one = rules.DAY_PER_MODEL.search(provider) or _GOOGLE.search(fault.codes)
            return "model" if of_one else "account"
        case _:
            if rules.ACCOUNT_WIDE.search(provider):
                return "account"
            if rules.PER_MODEL.search(provider):
                return "model"
            # A bare page or an empty body comes from something in front that knows no models.
            return "model" if fault.structured and not phrases.AN_ACCOUNT.search(text) else "account"
