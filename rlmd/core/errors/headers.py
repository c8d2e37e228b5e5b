"""How long the provider said to wait, and what it said about its windows. Reads; decides nothing.

The order of the sources is the contract's: the exhausted plan window, the body's own reset, `retry-after-ms`,
`retry-after`, RetryInfo and the error's sentence, the reset of the bucket that is empty. The first that can be
read and lies ahead wins: what is past, negative, infinite or gibberish is no hint.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from msgspec import Struct

from rlmd.core.errors.header_names import is_read
from rlmd.core.errors.notations import DATE, SPAN, ahead, is_length, number
from rlmd.core.model import DAY, HOUR, MOST, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlmd.core.errors.failure import Fault

_BEIJING = 8 * HOUR
"""Z.ai writes its resets without a zone, in China's time (recorded: zai-1308, zai-1310)."""
_BEIJING_CODES = re.compile(r"^13\d\d$", re.MULTILINE)

_BODY_KEYS = (
    "resets_at",
    "resetsat",
    "reset_at",
    "resets_in_seconds",
    "reset_after_seconds",
    "quotaresetdelay",
    "quotaresettimestamp",
    "header x-ratelimit-reset",
)
"""Members of an error that hold its reset, the surest first."""
_LATER_BODY_KEYS = ("retry_after", "retryafter", "retry_after_seconds", "retrydelay")

RESETS = (*(key for key in _BODY_KEYS if " " not in key), *_LATER_BODY_KEYS)
"""Members of an error that hold a time or a wait."""

_VERB = (
    r"\b(?:try again|retry|retrying|resets?|wait|refresh(?:ed|es)?|replenished|renews?"
    r"|available|access|until|expires)\b"
)
_IN = re.compile(
    rf"{_VERB}(?: (?:again|in|after|for|about|at least|approximately|another|will|be|is))* ?[:~]? ?({SPAN})"
)
_AT = re.compile(rf"{_VERB}(?: (?:again|at|on|after|will|be|is|by))* ?[:~]? ?({DATE})")

_PLAN_WINDOW = re.compile(r"anthropic-ratelimit-unified-(?!overage|fallback)(\w+)-status")
_UNIFIED = "anthropic-ratelimit-unified"
_UTILISATION = re.compile(rf"{_UNIFIED}-(?!overage|fallback)(\w+)-utilization")
_CODEX = re.compile(r"(x-codex(?:-[a-z0-9-]+)?-(?:primary|secondary))-used-percent")
_FIELD = re.compile(r'"?([\w.-]*)"?\s*((?:;\s*\w+\s*=\s*[^;,]*)+)')
_OLD_FIELD = re.compile(r"\b(limit|remaining|reset)=(\d{1,15})")
_PAIR = re.compile(r"(rem|rst)=([^&]*)")
_BUCKET = re.compile(r"ratelimit|tokenlimit")
_ROLES = ("limit", "remaining", "reset")

_QUANTITIES: tuple[tuple[str, Quantity], ...] = (
    ("input-token", "input_tokens"),
    ("output-token", "output_tokens"),
    ("token", "tokens"),
    ("req", "requests"),
)
_WORDS = {"image", "images", "audio", "search", "unified", "tools"}
"""Buckets of things that we do not count."""
_UNNAMED = re.compile(
    r"\d+(?:s|m|h|d|w|(?:sec|second|min|minute|hour|day|week|month)s?)?"
    r"|sec|second|min|minute|hour|day|week|month|hourly|daily|weekly|monthly|in|per|default|policy|burst|sustained"
)
"""Words of a bucket's name that leave open what is counted: then it is requests."""
_LONGEST_NAME = 128
_SPANS = {"second": 1.0, "minute": 60.0, "hour": HOUR, "day": DAY, "5h": 5 * HOUR, "7d": 7 * DAY}

_DOCUMENTED = {f"anthropic-ratelimit-{what}": 60.0 for what in ("requests", "tokens", "input-tokens", "output-tokens")}
"""Windows whose length is in the manual and not in the name: Anthropic's are per minute (its page "Rate limits")."""


class Reported(Struct, frozen=True):
    """One window as the provider itself sees it, taken from the headers of an answer."""

    name: str
    """The provider's own name of the window: what of its header's name is left without limit, remaining, reset."""
    of: Quantity | None
    """What is counted; None where only a share of a plan is told: `limit` is 1 then."""
    limit: float
    remaining: float
    reset: float | None = None
    """Epoch seconds of the next reset; None where it is not told or has passed."""
    span: float | None = None
    """Length of the window in seconds, where it is told."""


class _Bucket(Struct, frozen=True):
    """A window as read, complete or not; `reset` is seconds from now."""

    name: str
    of: Quantity | None
    limit: float | None
    remaining: float | None
    reset: float | None
    span: float | None = None
    share: bool = False

    @property
    def known(self) -> bool:
        """False for minus one, and for nought of nought: some mean unknown by it (azure-responses-negative)."""
        return self.remaining is not None and self.remaining >= 0 and (self.limit is None or self.limit > 0)

    @property
    def sound(self) -> bool:
        """False for what no provider can mean: its own mistake, or a notation that is not read here yet."""
        amounts = (self.limit or 0.0, self.remaining or 0.0)
        span = self.span is None or is_length(self.span)
        return span and max(amounts) <= MOST and len(self.name) <= _LONGEST_NAME


def asked(fault: Fault, now: float) -> float | None:
    """Seconds from now that the error asks for; None where it does not say."""
    return next(_told(fault, now), None)


def _told(fault: Fault, now: float) -> Iterator[float]:
    headers = fault.headers
    yield from _latest(_plan_resets(headers, now))
    yield from _of_body(fault, _BODY_KEYS, now)
    if (milliseconds := number(headers.get("retry-after-ms", ""))) is not None and is_length(milliseconds / 1000):
        yield milliseconds / 1000
    for name in ("retry-after", "x-ratelimit-user-retry-after"):
        yield from _readable(ahead(headers.get(name), now))
    yield from _of_body(fault, _LATER_BODY_KEYS, now)
    yield from _of_text(fault, now)
    yield from _latest(bucket.reset for bucket in _buckets(headers, now) if bucket.known and not bucket.remaining)


def _readable(seconds: float | None) -> Iterator[float]:
    if seconds is not None:
        yield seconds


def _latest(resets: Iterable[float | None]) -> Iterator[float]:
    yield from sorted((reset for reset in resets if reset is not None), reverse=True)[:1]


def _plan_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    """The resets of the plan windows marked rejected; the plan's own where no window is."""
    windows = [
        match.group(1) for name in headers if (match := _PLAN_WINDOW.fullmatch(name)) and headers[name] == "rejected"
    ]
    resets = [ahead(headers.get(f"{_UNIFIED}-{window}-reset"), now) for window in windows]
    if not any(resets) and headers.get(f"{_UNIFIED}-status") == "rejected":
        resets.append(ahead(headers.get(f"{_UNIFIED}-reset"), now))
    yield from resets


def _of_body(fault: Fault, keys: Iterable[str], now: float) -> Iterator[float]:
    for wanted in keys:
        for key, value in fault.facts:
            if key == wanted:
                yield from _readable(ahead(value, now))


def _of_text(fault: Fault, now: float) -> Iterator[float]:
    offset = _BEIJING if _BEIJING_CODES.search(fault.codes) else 0.0
    for match in _IN.finditer(fault.text):
        yield from _readable(ahead(match.group(1), now))
    for match in _AT.finditer(fault.text):
        yield from _readable(ahead(match.group(1), now, offset))


def read_windows(headers: Mapping[str, str], now: float) -> tuple[Reported, ...]:
    """The windows that an answer's headers tell of; `now` is when it came, in epoch seconds. Success tells them too.

    A bucket that makes no sense, or of a quantity that nobody here counts, is no window.
    """
    named = ((str(name).lower(), value) for name, value in headers.items())
    sent = {name: str(value).strip() for name, value in named if is_read(name)}
    return tuple(
        Reported(
            name=bucket.name,
            of=bucket.of,
            limit=bucket.limit,
            remaining=min(bucket.remaining, bucket.limit),
            reset=None if bucket.reset is None else now + bucket.reset,
            span=bucket.span,
        )
        for bucket in _buckets(sent, now)
        if bucket.known and bucket.sound and bucket.limit is not None and bucket.remaining is not None
        if bucket.share or bucket.of is not None
        # Empty, but no word on when it fills: the other way to say that nobody knows.
        if bucket.remaining > 0 or bucket.reset is not None
    )


def _quantity(name: str, policy: Mapping[str, str]) -> Quantity | None:
    """What a bucket counts, by its name and by the unit in its policy; None where that is nothing that we count."""
    words = re.split(r"[-_]", name)
    unit = policy.get("qu", policy.get("u", "")).strip('"')
    if _WORDS & {*words, unit}:
        return None
    named = unit or name
    if known := next((quantity for word, quantity in _QUANTITIES if word in named), None):
        return known
    bucket = next(place for place, word in enumerate(words) if _BUCKET.match(word))
    bare = all(_UNNAMED.fullmatch(word) for word in words[bucket + 1 :])
    return "requests" if bare and not unit else None


def _buckets(headers: Mapping[str, str], now: float) -> Iterator[_Bucket]:
    yield from _plain(headers, now)
    yield from _ietf(headers, now)
    for name, value in headers.items():
        if match := _CODEX.fullmatch(name):
            yield from _codex(headers, match.group(1), number(value), now)
        elif match := _UTILISATION.fullmatch(name):
            window = match.group(1)
            reset = ahead(headers.get(f"{_UNIFIED}-{window}-reset"), now)
            yield from _share(f"unified-{window}", number(value), reset, _SPANS.get(window[:2]))
        elif name.startswith("x-usage-ratelimit-"):
            # Copilot: `ent=0&rem=35.3&rst=<RFC 3339>`, remaining in per cent (copilot-200-usage).
            told = dict(_PAIR.findall(unquote(value[:300])))
            left = number(told.get("rem", ""))
            used = None if left is None else 1 - left / 100
            yield from _share(name, used, ahead(told.get("rst"), now), None)


def _plain(headers: Mapping[str, str], now: float) -> Iterator[_Bucket]:
    """The triples `…-limit…`, `…-remaining…`, `…-reset…` of OpenAI, Anthropic, Groq, Helicone and many more."""
    found: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        words = name.replace("rate-limit", "ratelimit").split("-")
        role = next((word for word in _ROLES if word in words), None)
        if role is not None and any(_BUCKET.match(word) for word in words):
            words.remove(role)
            found.setdefault("-".join(words), {})[role] = value
    for name, told in found.items():
        policy = dict(_members(headers.get(f"{name}-policy", "")[:300]))
        yield _Bucket(
            name=name,
            of=_quantity(name, next(iter(policy.values()), {})),
            limit=number(told.get("limit", "")),
            remaining=number(told.get("remaining", "")),
            reset=ahead(told.get("reset"), now),
            span=next((seconds for word, seconds in _SPANS.items() if name.endswith(word)), _DOCUMENTED.get(name)),
        )


def _ietf(headers: Mapping[str, str], now: float) -> Iterator[_Bucket]:
    """`RateLimit: "day";r=0;t=50` with `RateLimit-Policy: "day";q=100;w=86400`; of old `limit=9, remaining=0`."""
    field = headers.get("ratelimit", "")[:300]
    if old := dict(_OLD_FIELD.findall(field)):
        limit, remaining = number(old.get("limit", "")), number(old.get("remaining", ""))
        yield _Bucket("ratelimit", "requests", limit, remaining, ahead(old.get("reset"), now))
        return
    policies = dict(_members(headers.get("ratelimit-policy", "")[:300]))
    for name, told in _members(field):
        policy = policies.get(name, {})
        remaining = number(told.get("r", ""))
        yield _Bucket(
            f"ratelimit-{name}",
            _quantity(f"ratelimit-{name}", policy),
            number(policy.get("q", "")),
            remaining,
            ahead(told.get("t"), now),
            policy_span(policy),
        )


def _members(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    for match in _FIELD.finditer(field):
        pairs = (pair.partition("=") for pair in match.group(2).split(";"))
        yield match.group(1), {key.strip(): value.strip() for key, _, value in pairs}


def policy_span(policy: Mapping[str, str]) -> float | None:
    """Length in seconds of the window of one policy, its parameter `w`."""
    return number(policy.get("w", ""))


def _codex(headers: Mapping[str, str], window: str, percent: float | None, now: float) -> Iterator[_Bucket]:
    minutes = number(headers.get(f"{window}-window-minutes", ""))
    if percent is None or minutes == 0:
        return  # an empty secondary window (codex-weekly-as-primary)
    resets = (ahead(headers.get(f"{window}-{name}"), now) for name in ("reset-after-seconds", "reset-at"))
    reset = next(filter(None, resets), None)
    yield from _share(window, percent / 100, reset, None if minutes is None else minutes * 60)


def _share(name: str, used: float | None, reset: float | None, length: float | None) -> Iterator[_Bucket]:
    if used is not None:
        yield _Bucket(name, None, 1.0, max(0.0, 1 - used), reset, length, share=True)


def policy_window(headers: Mapping[str, str]) -> float | None:
    """Length in seconds of the shortest window that a gateway's policy header names (`1000;w=3600`), or None."""
    fields = (value[:300] for name, value in headers.items() if name.endswith("ratelimit-policy"))
    spans = (policy_span(policy) for field in fields for _, policy in _members(field))
    return min((span for span in spans if span is not None and is_length(span)), default=None)
