"""What a provider really does, whatever the configuration says of it: what it counts, when it refuses, when it is down.

It counts by itself and not with the ledger's windows: a mistake there must not repeat itself here.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf
from typing import TYPE_CHECKING

from msgspec import Struct

from rlmd.core.calendar import bounds, seconds
from rlmd.core.model import Limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rlmd.core.model import Policy, Quantity

GRAIN = 1000
"""A rolling limit forgets in steps of this part of its span."""

_WEIGHTS: dict[Quantity, tuple[int, int, int]] = {
    "requests": (1, 0, 0),
    "tokens": (0, 1, 1),
    "input_tokens": (0, 1, 0),
    "output_tokens": (0, 0, 1),
    "cost": (0, 0, 0),
}
"""What is counted of a request, of each of its input tokens, and of each of its output tokens at its end."""

_REFUSED = '{"error":{"type":"rate_limit_error","message":"Rate limit exceeded."}}'
_OVERLOADED = '{"error":{"type":"overloaded_error","message":"Overloaded"}}'


class Behaviour(Struct, frozen=True):
    """How one provider really behaves."""

    limits: tuple[Limit, ...] | None = None
    """What it enforces; None: what is configured for its account."""
    status: int = 429
    """With what it refuses: 429, or 529 for a server that calls itself overloaded."""
    hint: bool = True
    """Whether a refusal says when to come back."""
    outages: tuple[tuple[float, float], ...] = ()
    """From and until when every request fails; epoch seconds."""


class Rejection(Struct, frozen=True):
    """How a provider turns a request away, and by which of its limits; None: it is down."""

    limit: Limit | None
    status: int | None = None
    headers: dict[str, str] = {}
    body: str = ""
    message: str = ""


class Meter:
    """What a provider counts of one limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.used = 0
        self.end = 0.0 if limit.window == "calendar" else inf
        """When something counted is forgotten next."""
        self._each, self._input, self._output = _WEIGHTS[limit.of]
        self._span = 0.0 if limit.window == "calendar" else seconds(limit.per)
        self._counted: deque[list[float]] = deque()
        """Of a rolling limit: since when, how much."""

    def has_room(self, tokens: int, now: float) -> bool:
        """Tell whether a request of so many input tokens may come in."""
        if now >= self.end:
            self._forget(now)
        amount = self._each + self._input * tokens
        return self.used + amount <= self.limit.max and (amount > 0 or self.used < self.limit.max)

    def begin(self, tokens: int, now: float) -> None:
        """Count a request of so many input tokens, for which there is room."""
        self._add(self._each + self._input * tokens, now)

    def finish(self, tokens: int, now: float) -> None:
        """Count the output tokens of a request that has ended."""
        if self._output:
            if now >= self.end:
                self._forget(now)
            self._add(tokens, now)

    def _add(self, amount: int, now: float) -> None:
        self.used += amount
        if self.end == inf:
            self.end = now + self._span
        if self.limit.window == "rolling":
            if self._counted and now < self._counted[-1][0] + self._span / GRAIN:
                self._counted[-1][1] += amount
            else:
                self._counted.append([now, amount])

    def _forget(self, now: float) -> None:
        match self.limit.window:
            case "calendar":
                self.used, self.end = 0, bounds(self.limit.per, now, self.limit.zone)[1]
            case "first_use":
                self.used, self.end = 0, inf
            case "rolling":
                while self._counted and self._counted[0][0] + self._span <= now:
                    self.used -= int(self._counted.popleft()[1])
                self.end = self._counted[0][0] + self._span if self._counted else inf


class Place:
    """One model at one provider, as a request finds it. The providers of one account share its meters."""

    def __init__(self, account: str, meters: Iterable[Meter], behaviour: Behaviour) -> None:
        self.account = account
        self._meters = tuple(meters)
        self._behaviour = behaviour

    def take(self, tokens: int, now: float) -> Rejection | None:
        """Take a request of so many input tokens in, or turn it away."""
        if self._behaviour.outages and any(start <= now < end for start, end in self._behaviour.outages):
            return Rejection(None, 502, message="Bad Gateway")
        full: Meter | None = None
        for meter in self._meters:
            if not meter.has_room(tokens, now) and (full is None or meter.end > full.end):
                full = meter
        if full is not None:
            return self._refusal(full.limit, full.end - now)
        for meter in self._meters:
            meter.begin(tokens, now)
        return None

    def finish(self, tokens: int, now: float) -> None:
        """Take note that a request has ended, after so many output tokens."""
        for meter in self._meters:
            meter.finish(tokens, now)

    def _refusal(self, limit: Limit, after: float) -> Rejection:
        status = self._behaviour.status
        headers = {"retry-after": str(ceil(after))} if self._behaviour.hint and after < inf else {}
        body = _REFUSED if status == 429 else _OVERLOADED  # noqa: PLR2004  (an HTTP status)
        return Rejection(limit, status, headers, body)


def build(policy: Policy, behaviours: Mapping[str, Behaviour]) -> dict[tuple[str, str], Place]:
    """Set every provider up; the places by what the agent calls them: provider and model."""
    limits: dict[str, dict[str, Limit]] = {}
    really = {p.account for p in policy.providers if behaviours.get(p.id, Behaviour()).limits is not None}
    for provider in policy.providers:
        own = limits.setdefault(provider.account, {})
        configured = () if provider.account in really else provider.limits
        for limit in behaviours.get(provider.id, Behaviour()).limits or configured:
            if limit.key not in own or limit.max < own[limit.key].max:
                own[limit.key] = limit
    meters = {account: [Meter(limit) for limit in own.values()] for account, own in limits.items()}
    return {
        (provider.id, offer.name): Place(
            provider.account,
            (m for m in meters[provider.account] if m.limit.model in {None, model}),
            behaviours.get(provider.id, Behaviour()),
        )
        for provider in policy.providers
        for model, offer in provider.models.items()
    }
