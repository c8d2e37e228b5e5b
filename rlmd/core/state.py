"""What is configured and what is known, by name. Configuring and restoring live here; deciding does not."""

from __future__ import annotations

import heapq
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from rlmd.core.breaker import Breaker
from rlmd.core.model import YEAR, Effects, Kind, Limit, Moment, Notice, Policy, Spent, Used
from rlmd.core.snapshot import Snapshot
from rlmd.core.succession import models_in_line
from rlmd.core.target import Chain, Counter, CounterRow, ProviderTotals, RequestLog, Target, TotalsRow
from rlmd.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


PLANNED = 100
"""Announcements on the agenda before those that no longer hold are removed."""


class BreakerRow(Struct):
    """The durable part of a breaker."""

    opened: bool
    until: Moment
    level: Annotated[int, Meta(ge=0, le=10**6)]
    changed: Moment
    reason: str = ""
    early_at: Moment | None = None
    silent: bool = False


class State:
    """All that is known, reachable by the names that requests and stored facts use.

    Facts of providers that the configuration does not name just now are kept aside: a person who comments a
    provider out for an hour loses no cooldown and no count.
    """

    def __init__(self) -> None:
        self.policy = Policy()
        self.totals: dict[str, ProviderTotals] = {}
        self.breakers: dict[str, Breaker] = {}
        self.counters: dict[str, Counter] = {}
        self.recent: dict[str, RequestLog] = {}
        """By account."""
        self.pins: dict[str, str] = {}
        """Canonical model, or `*` for all, to the provider that the person put first."""
        self.unusable: set[str] = set()
        """Providers that refuse the key and models that are missing, as far as that has been told."""
        self.unanswered: set[str] = set()
        """Breakers of the servers from which no answer has come to their last request."""
        self.targets: dict[str, dict[str, Target]] = {}
        """By provider, then by canonical model."""
        self.chains: dict[str, Chain] = {}
        """All who may serve a canonical model, its fallbacks included."""
        self.last_used: str | None = None
        """The provider that the last good answer came from, or that the person has put first since."""
        self._names: dict[tuple[str, str], Target] = {}
        self._met: dict[str, Counter] = {}
        """Every counter since the start: requests may be under way in one whose limit is taken out."""
        self._windows: dict[str, CounterRow] = {}
        self._snapshots: dict[str, dict[str, Snapshot]] = {}
        self._agenda: list[tuple[float, str]] = []
        self._most_planned = PLANNED
        self._watched_since = -inf
        """What was used before, an earlier run has counted and this one has not seen."""

    @property
    def current(self) -> str | None:
        """The provider in use, if it is configured now."""
        return self.last_used if self.last_used in self.targets else None

    def behind(self, key: str) -> list[Target]:
        """List the targets that share a breaker or a counter, as configured now."""
        found = (target for by_model in self.targets.values() for target in by_model.values())
        return [t for t in found if any(key == k for k, _ in t.breakers) or any(key == c.key for c in t.counters)]

    def find(self, provider: str, name: str) -> Target | None:
        """Find the target that the agent calls so; its canonical name will do as well."""
        return self._names.get((provider, name)) or self.targets.get(provider, {}).get(name)

    def configure(self, policy: Policy, call: Call) -> None:
        """Put a policy into force. What was counted for a limit that is still there stays counted."""
        for by_model in self.targets.values():
            for target in by_model.values():
                self._snapshots[target.key] = dict(target.snapshots)
        before, self.counters = self.counters, {}
        self.policy, self.targets, self._names, self.unusable = policy, {}, {}, set()
        of_account: dict[str, list[Counter]] = {}
        for account, limits in _limits_by_account(policy).items():
            own = of_account[account] = []
            for limit in limits:
                key = f"{account}|{limit.key}"
                if key not in self._met:
                    row = self._windows.pop(key, None) or self._windows.get(f"{account}|{limit.former_key}")
                    self._met[key] = _counter(key, limit, row)
                counter = self.counters[key] = self._met[key]
                counter.hold(limit)
                if key not in before:
                    counter.planned = None
                own.append(counter)
        for provider in policy.providers:
            totals = self.totals.setdefault(provider.id, ProviderTotals())
            if totals.follow(enabled=provider.enabled):
                call.keep_totals(provider.id)
            self.targets[provider.id] = {}
            for model, offer in provider.models.items():
                keys = (
                    f"server:{provider.id}",
                    f"account:{provider.account}",
                    f"model:{provider.id}/{model}",
                )
                target = Target(
                    provider,
                    model,
                    totals,
                    tuple((key, self.breakers.setdefault(key, Breaker())) for key in keys),
                    tuple(c for c in of_account[provider.account] if c.limit.model in {None, model}),
                    self.recent.setdefault(provider.account, RequestLog(self._watched_since)),
                )
                target.snapshots = self._snapshots.pop(target.key, {})
                self.targets[provider.id][model] = target
                self._names[provider.id, offer.name] = target
        serving: dict[str, list[Target]] = {}
        for by_model in self.targets.values():
            for model, target in by_model.items():
                serving.setdefault(model, []).append(target)
        self.chains = {
            model: Chain(t for other in models_in_line(model, policy.fallback) for t in serving.get(other, ()))
            for model in serving
        }

    def restore(self, facts: Iterable[tuple[str, str, bytes]], now: float, longest: float = inf) -> None:
        """Take in stored facts (kind, key, JSON) before the first `configure`. Times in the past are dropped.

        `longest` is the policy's longest cooldown. Raises what is `model.SENSELESS` for a fact that makes no sense.
        """
        for kind, key, row in facts:
            self._watched_since = now
            match kind:
                case "window":
                    self._windows[key] = msgspec.json.decode(row, type=CounterRow)
                case "breaker":
                    breaker = msgspec.json.decode(row, type=BreakerRow)
                    if breaker.until - now > YEAR:
                        raise msgspec.ValidationError("it rests for more than a year")
                    self.breakers[key] = _restored(breaker, now)
                    if self.breakers[key].silent:
                        self.unanswered.add(key)
                case "tally":
                    stored = msgspec.json.decode(row, type=TotalsRow)
                    totals = self.totals.setdefault(key, ProviderTotals())
                    totals.requests, totals.errors = stored.requests, stored.errors
                    totals.override, totals.configured = stored.override, stored.configured
                case "snapshot":
                    snapshots = msgspec.json.decode(row, type=dict[str, Snapshot])
                    if any(s.resets_at - now > longest for s in snapshots.values()):
                        raise msgspec.ValidationError("it lasts longer than cooldown.longest")
                    self._snapshots[key] = {name: s for name, s in snapshots.items() if now < s.resets_at}
                case "setting" if key == "current":
                    self.last_used = msgspec.json.decode(row, type=str | None)
                case "setting" if key == "pins":
                    self.pins = msgspec.json.decode(row, type=dict[str, str])

    def keep_everything(self) -> Effects:
        """Return all that is durable, also what the configuration does not name just now."""
        targets = [target for by_model in self.targets.values() for target in by_model.values()]
        return Effects(
            facts={
                **{("window", key): partial(_itself, row) for key, row in self._windows.items()},
                **{("window", counter.key): counter.row for counter in self._met.values()},
                **{("breaker", key): breaker.row for key, breaker in self.breakers.items()},
                **{("tally", provider): totals.row for provider, totals in self.totals.items()},
                **{("snapshot", key): partial(_itself, kept or None) for key, kept in self._snapshots.items()},
                **{("snapshot", target.key): target.snapshots_row for target in targets},
                ("setting", "current"): lambda: self.last_used,
                ("setting", "pins"): lambda: self.pins,
            }
        )

    def plan(self, at: float, key: str) -> None:
        """Plan an announcement of this breaker or counter."""
        heapq.heappush(self._agenda, (at, key))
        if len(self._agenda) > self._most_planned:  # a cooldown may be prolonged very often
            self._agenda = [entry for entry in set(self._agenda) if self._holds(*entry)]
            heapq.heapify(self._agenda)
            self._most_planned = 2 * len(self._agenda) + PLANNED

    def _holds(self, at: float, key: str) -> bool:
        """True if an announcement that was planned still holds."""
        if key in self.breakers:
            return self.breakers[key].opened and self.breakers[key].until == at
        return key in self.counters and self.counters[key].planned == at

    def planned(self) -> float | None:
        """Tell when the next announcement is due."""
        return self._agenda[0][0] if self._agenda else None

    def due(self, now: float) -> Iterator[tuple[float, str]]:
        """Take the announcements that are due off the agenda, each once; some may no longer be true."""
        last: tuple[float, str] | None = None
        while self._agenda and self._agenda[0][0] <= now:
            due = heapq.heappop(self._agenda)
            if due != last:
                yield due
            last = due


class Call(Effects, kw_only=True):
    """One call of the ledger: the state, the time, and the effects of what the call changes."""

    state: State
    now: float

    def tell(self, *notices: Notice) -> None:
        """Have notices told once the facts are kept."""
        self.notices.extend(notices)

    def note_use(self, target: Target, what: Spent | Kind, amount: float = 1, at: float | None = None) -> None:
        """Add to the usage history of a target, now or at another time."""
        self.usage.append(Used(self.now if at is None else at, target.provider.id, target.model, what, amount))

    def keep_counter(self, counter: Counter) -> None:
        """Keep what is durable of a counter."""
        self.facts["window", counter.key] = counter.row

    def keep_breaker(self, key: str) -> None:
        """Keep what is durable of a breaker."""
        self.facts["breaker", key] = self.state.breakers[key].row

    def keep_totals(self, provider: str) -> None:
        """Keep what is durable of a provider's totals."""
        self.facts["tally", provider] = self.state.totals[provider].row

    def keep_snapshots(self, target: Target) -> None:
        """Keep the snapshots of a target."""
        self.facts["snapshot", target.key] = target.snapshots_row

    def keep_pins(self) -> None:
        """Keep the providers that the person put first."""
        self.facts["setting", "pins"] = lambda: self.state.pins

    def keep_current(self, provider: str) -> None:
        """Note the provider that is in use now, and keep it where it has changed."""
        if self.state.last_used != provider:
            self.state.last_used = provider
            self.facts["setting", "current"] = lambda: provider


def _itself(row: object) -> object:
    return row


def _counter(key: str, limit: Limit, row: CounterRow | None) -> Counter:
    counter = Counter(key, limit, Window.from_row(limit, row.window) if row else Window.for_limit(limit))
    if row is not None:
        counter.last_warned = row.told
        counter.judged = limit.max if row.judged is None else row.judged
    return counter


def _restored(row: BreakerRow, now: float) -> Breaker:
    if row.opened and now >= row.until:  # its block has ended since, and it is closed from then on
        return Breaker(level=row.level, changed=row.until)
    return Breaker(row.opened, row.until, row.level, row.changed, row.reason, row.early_at, row.silent)


def _limits_by_account(policy: Policy) -> dict[str, list[Limit]]:
    """Gather the limits of each account; where two of its providers state the same one, the smaller holds."""
    gathered: dict[str, dict[str, Limit]] = {}
    for provider in policy.providers:
        limits = gathered.setdefault(provider.account, {})
        for limit in provider.limits:
            known = limits.get(limit.key)
            if known is None or limit.max < known.max:
                limits[limit.key] = limit
    return {account: list(limits.values()) for account, limits in gathered.items()}
