"""Targets, the places that a request can go to: counters, breakers and totals of each; the chain of a model."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from rlmd.core.model import Count
from rlmd.core.text import stated
from rlmd.core.window import WindowRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rlmd.core.breaker import Breaker
    from rlmd.core.model import Limit, Provider, ProviderModel, Quantity
    from rlmd.core.snapshot import Snapshot
    from rlmd.core.window import Window


REQUESTS_REMEMBERED = 4096
"""Requests of an account that are remembered one by one: more than one a second for an hour."""


class CounterRow(Struct):
    """The durable part of a counter."""

    window: WindowRow
    told: tuple[float, float] = (0.0, 0.0)
    judged: float | None = None
    """The maximum for which `told` holds; None in a state of an older rlmd."""


class Counter:
    """What has been used of one limit, shared by the providers of an account."""

    def __init__(self, key: str, limit: Limit, window: Window) -> None:
        self.key = key
        self.window = window
        self.counts_requests = limit.of == "requests"
        self.hold(limit)
        self.judged = limit.max
        """The maximum for which `last_warned` holds."""
        self.last_warned: tuple[float, float] = (0.0, 0.0)
        """The window's start and the largest share of the limit that a warning has named."""
        self.planned: float | None = None
        """When the window's end is to be announced."""

    def hold(self, limit: Limit) -> None:
        """Count for this limit from now on; it differs in its maximum or its warnings at the most."""
        self.limit = limit
        self.stated = stated(limit)
        self.first_warning = min((1.0, *limit.warn_at))
        """The smallest share that is announced."""

    def row(self) -> CounterRow:
        """Give the durable part."""
        return CounterRow(self.window.row(), self.last_warned, self.judged)

    def amount(self, estimate: int | None) -> float:
        """How much of this limit a request takes as far as it is known beforehand."""
        return 1.0 if self.counts_requests else foreseen(self.limit.of, estimate)

    def room(self, amount: float, now: float) -> bool:
        """Whether this much more may be used now; an unknown amount, 0, needs that anything is left."""
        load = self.window.load(now)
        return load + amount <= self.limit.max and (amount > 0 or load < self.limit.max)

    def free_at(self, amount: float, now: float) -> float | None:
        """From when this much may be used, if nothing else happens; None: never."""
        return self.window.free_at(amount, self.limit.max, now)

    def share(self, now: float) -> float:
        """The used share of the limit: what warnings are about."""
        return self.window.used(now) / self.limit.max

    def headroom(self, now: float) -> float:
        """The share of the limit that is neither used nor reserved."""
        return 1 - self.window.load(now) / self.limit.max

    def follow_maximum(self) -> bool:
        """Have warnings hold for the present maximum. True where they held for another one."""
        before, self.judged = self.judged, self.limit.max
        return before != self.judged


def foreseen(of: Quantity, estimate: int | None) -> float:
    """How much of a quantity a request will take at the least, as far as an agent can say before it."""
    match of:
        case "requests":
            return 1.0
        case "tokens" | "input_tokens":
            return float(estimate or 0)
        case "output_tokens" | "cost":
            return 0.0


class TotalsRow(Struct):
    """The durable part of a provider's own numbers."""

    requests: Count = 0
    errors: Count = 0
    override: bool | None = None
    configured: bool | None = None


class ProviderTotals:
    """A provider's own numbers. `override` is what the person said by hand about its being enabled.

    `configured` is what the configuration said at that time: once it says something else, that is the person's last
    word.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.in_flight = 0
        self.override: bool | None = None
        self.configured: bool | None = None

    def row(self) -> TotalsRow:
        """Give the durable part."""
        return TotalsRow(self.requests, self.errors, self.override, self.configured)

    def follow(self, *, enabled: bool) -> bool:
        """Take in what the configuration says now. True where that ends what was said by hand."""
        if self.override is None:
            return False
        if self.configured is None:
            self.configured = enabled
        if self.configured == enabled:
            return False
        self.override = self.configured = None
        return True


class RequestLog:
    """When the requests of one account were counted, as far back as is remembered; `since`: watched from then on."""

    def __init__(self, since: float = -inf) -> None:
        self.since = since
        self._counted: deque[tuple[float, str]] = deque()

    def note(self, now: float, target: str) -> None:
        """Remember that a request of a target, by its key, was counted."""
        if len(self._counted) == REQUESTS_REMEMBERED:
            self.since = self._counted.popleft()[0]
        self._counted.append((now, target))

    def used(self, since: float, target: str | None = None) -> int | None:
        """Count the requests since a time, of one target or of all; None where not all of that time was watched."""
        if since <= self.since:
            return None
        return sum(at >= since and target in {None, key} for at, key in self._counted)


class Target:
    """One canonical model at one provider, with everything that may keep a request from it."""

    def __init__(
        self,
        provider: Provider,
        model: str,
        totals: ProviderTotals,
        breakers: tuple[tuple[str, Breaker], ...],
        counters: tuple[Counter, ...],
        recent: RequestLog,
    ) -> None:
        self.provider = provider
        self.model = model
        self.offer: ProviderModel = provider.models[model]
        self.totals = totals
        self.breakers = breakers
        """Keys and breakers of the server, the account and the model, in this order."""
        self.counters = counters
        self.recent = recent
        """The last requests of its account."""
        self.meters = tuple(c for c in counters if not c.counts_requests)
        """Those of them that count tokens or money."""
        self.snapshots: dict[str, Snapshot] = {}
        """What the provider itself last said is left, by its own name of the window."""

    @property
    def key(self) -> str:
        """Name of the target in stored facts."""
        return f"{self.provider.id}/{self.model}"

    @property
    def enabled(self) -> bool:
        """True if the target may serve: a person's order, else the configuration."""
        return self.provider.enabled if self.totals.override is None else self.totals.override

    def snapshots_row(self) -> dict[str, Snapshot] | None:
        """Return the durable part of the snapshots, None where there are none."""
        return self.snapshots or None

    def headroom(self, now: float) -> float:
        """Free share of the tightest limit, 1 where there is none."""
        shares = [counter.headroom(now) for counter in self.counters]
        shares += [s.left() / s.limit for s in self.snapshots.values() if now < s.resets_at and s.limit > 0]
        return min(shares, default=1.0)


class Chain:
    """All who may serve a canonical model: its own targets by priority, then those of each fallback."""

    def __init__(self, targets: Iterable[Target]) -> None:
        found = list(targets)
        self.places = {model: n for n, model in enumerate(dict.fromkeys(t.model for t in found))}
        """How far down the line of fallbacks each model is."""
        self.targets = sorted(found, key=lambda t: (self.places[t.model], t.provider.priority, t.provider.id))
        ranks = [(t.model, t.provider.priority) for t in self.targets]
        self.distinct = len(set(ranks)) == len(ranks)
        """True if priorities are unique per model; then candidates need no sorting by load."""
        self._from: dict[str | None, list[Target]] = {None: self.targets}

    def beginning_with(self, provider: str | None) -> list[Target]:
        """Give the order for a session that is at this provider, or at none."""
        order = self._from.get(provider)
        if order is None:
            order = sorted(self.targets, key=lambda t: (self.places[t.model], t.provider.id != provider))
            self._from[provider] = order
        return order


def name_providers(targets: Sequence[Target]) -> tuple[str, str]:
    """Name the providers of some targets, and say `its` or `their`."""
    names = list(dict.fromkeys(t.provider.id for t in targets))
    return ", ".join([*names[:-2], " and ".join(names[-2:])]), "its" if len(names) == 1 else "their"
