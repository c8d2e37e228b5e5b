"""What a refusal tells of the limit behind it, for limits that nobody has written down.

Reads what the provider said, in its headers, its sentence and its wait, and counts what was used of that window
here. It decides nothing: `rlmctl limits suggest` makes its proposals of these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rlmd.core.model import DAY, HOUR, Allowance, Basis, Quantity, Span

if TYPE_CHECKING:
    from rlmd.core.model import Verdict
    from rlmd.core.target import Target


SECONDS: dict[Span, float] = {
    "1m": 60.0,
    "1h": HOUR,
    "5h": 5 * HOUR,
    "1d": DAY,
    "1w": 7 * DAY,
    "month": 31 * DAY,
}
"""The windows that providers have, the shortest first."""
_SLACK = 1.01
"""A wait of 3601 s is one of an hour: clocks and rounding add a little."""

_SPANS: tuple[tuple[str, Span], ...] = (
    (r"\b5[ -]?h(?:our)?s?\b|five[ -]hour", "5h"),
    (r"\bper[ -]?min(?:ute)?\b|\bperminute|/min\b|\b[rt]pm\b", "1m"),
    (r"\bper[ -]?hour\b|\bperhour|\bhourly\b", "1h"),
    (r"\bper[ -]?day\b|\bperday|\bdaily\b|\b[rt]pd\b", "1d"),
    (r"\bper[ -]?week\b|\bweekly\b", "1w"),
    (r"\bper[ -]?month\b|\bmonthly\b", "month"),
)
_WHAT = r"(?P<of>(?:input |output )?tokens?|requests?)"
_EACH = r"per[ -]?(?P<per>min(?:ute)?|hour|day|week|month)\b"
_STATED = (
    # This request would exceed your organization's rate limit of 30,000 input tokens per minute
    re.compile(rf"\b(?P<max>\d[\d,]{{0,14}}) {_WHAT} {_EACH}"),
    # Rate limit reached for … on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200
    re.compile(rf"\b{_WHAT} {_EACH}[^.]{{0,20}}: ?limit:? (?P<max>\d[\d,]{{0,14}})"),
)
_PER: dict[str, Span] = {"min": "1m", "minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "month"}


def read(target: Target, verdict: Verdict, text: str, now: float) -> Allowance:
    """Tell what a refusal of a target shows of a limit; `text` is the error's sentence in lower case.

    The surest source first: an empty window in the headers, the sentence, the length of the wait, the kind.
    """
    whose, model = (target.key, target.model) if verdict.scope == "model" else (None, None)
    recent = target.recent
    for held in target.snapshots.values():
        per = next((span for span, length in SECONDS.items() if length == held.span), None)
        if held.left() <= 0 and per is not None and now < held.resets_at:
            used = recent.used(held.resets_at - SECONDS[per], whose) if held.of == "requests" else None
            return Allowance(held.of, "header", per, held.limit, used, model)
    of, per, most = _said(text)
    basis: Basis = "text"
    if per is None and verdict.hint is not None:
        per, basis = spanned(verdict.hint), "wait"
    if per is None:
        per, basis = "1m" if verdict.kind == "throttle" else None, "kind"
    used = None
    if of == "requests" and per is not None:
        # The window that the wait ends began its length before that; one without a wait may have begun at any time.
        ends = now + min(verdict.hint or 0.0, SECONDS[per])
        used = recent.used(ends - SECONDS[per], whose)
    return Allowance(of, basis, per, most, used, model)


def spanned(seconds: float | None) -> Span | None:
    """Name the shortest window of which so long a time can be left; None where none is that long."""
    if seconds is None:
        return None
    return next((span for span, length in SECONDS.items() if seconds <= length * _SLACK), None)


def _said(text: str) -> tuple[Quantity, Span | None, float | None]:
    """Read what is limited, of which span, and how much, as far as a sentence says."""
    for pattern in _STATED:
        if found := pattern.search(text):
            return _quantity(found["of"]), _PER[found["per"]], float(found["max"].replace(",", ""))
    of: Quantity = "tokens" if re.search(r"\btokens? per\b|\btp[md]\b|tokensper", text) else "requests"
    return of, next((span for words, span in _SPANS if re.search(words, text)), None), None


def _quantity(word: str) -> Quantity:
    match word.removesuffix("s"):
        case "input token":
            return "input_tokens"
        case "output token":
            return "output_tokens"
        case "token":
            return "tokens"
    return "requests"
