"""A daemon as the policy describes it, in the simplest form: what the real one is held against.

It knows one model, limits on requests in calendar windows of UTC, rests until a time, and leases. It is written from
the policy and shares no code with the daemon; everything is looked up where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

SPAN = {"1h": 3600.0, "1d": 86400.0}
LEASE = 900.0
PROBE = 20.0


@dataclass
class Provider:
    """What the configuration says of one."""

    name: str
    priority: int
    limits: dict[str, int]
    """Span to maximum, hourly first."""


@dataclass
class Count:
    """What was used of one limit in one window, and who has reserved a request in it."""

    span: float
    start: float = 0.0
    end: float = 0.0
    used: int = 0
    waiting: set[str] = field(default_factory=set)

    def turn(self, now: float) -> None:
        """Begin the window that holds now; one that has been left never opens again."""
        if now >= self.end:
            self.start = now // self.span * self.span
            self.end, self.used, self.waiting = self.start + self.span, 0, set()

    def usage(self, now: float) -> tuple[int, int]:
        return (0, 0) if now >= self.end else (self.used, len(self.waiting))

    def resets_at(self, now: float) -> float:
        return now // self.span * self.span + self.span if now >= self.end else self.end

    def forget(self, now: float) -> None:
        self.turn(now)
        self.used = 0
        if not self.waiting:
            self.start = self.end = 0.0


@dataclass
class Rest:
    """A cooldown: over when its time has come and a request that tries it was accepted."""

    until: float | None = None
    changed: float = 0.0
    probes: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """Leases that try it: until when each keeps others off, and whether what it brings is news."""
    early: float | None = None

    def free_at(self, now: float, *, early: bool) -> float:
        if self.until is None:
            return now
        at = self.early if early and self.early is not None and not self.probes else self.until
        return max([at, *(until for until, _ in self.probes.values() if now < until)])

    def ends(self, lease: str | None) -> bool:
        """Whether this lease tries the rest and its outcome counts."""
        return self.probes.pop(lease or "", (0.0, False))[1]

    def good(self, lease: str | None, started: float, now: float) -> None:
        tried = self.ends(lease)
        if self.until is not None and (tried or (now >= self.until and started >= self.until)):
            self.until, self.changed, self.early, self.probes = None, now, None, {}

    def bad(self, lease: str | None, started: float, now: float, hint: float) -> None:
        tried = self.ends(lease)
        early = tried and self.until is not None and now < self.until
        if early:
            self.plan(now, 7200)
        if self.until is None and started < self.changed <= now and not tried:
            return
        if self.until is None or now + hint > self.until:
            self.until, self.changed = now + hint, now
            self.overtake()
            self.plan(now, 7200 if early else 3600)

    def missed(self, lease: str | None, now: float) -> None:
        if self.ends(lease) and self.early is not None and self.until is not None and now < self.until:
            self.plan(now, 7200)

    def plan(self, now: float, pause: float) -> None:
        """A long rest may be tried after an hour, and then every two hours."""
        self.early = now + pause if (self.until or now) - now > pause else None

    def overtake(self) -> None:
        """What those who try it bring is no news any more."""
        self.probes = {lease: (until, False) for lease, (until, _) in self.probes.items()}


@dataclass
class Lease:
    """One request, as the daemon remembers it."""

    provider: str | None
    at: float
    stage: Literal["reserved", "accepted", "lapsed", "final"] = "reserved"
    held: bool = False
    """It is under way in this run of the daemon."""
    slots: list[tuple[str, str, float]] = field(default_factory=list)
    """Provider and span of the limits in which it was reserved, and the start of the window."""
    counted: list[tuple[str, str, float]] = field(default_factory=list)
    """The same, once it was counted there."""
    bad: bool = False
    """What was said of it last was that its provider rests."""


@dataclass(frozen=True)
class Decision:
    """Where a request goes, or from when somebody may serve."""

    provider: str | None
    retry_at: float | None = None
    reason: str = ""


class Reference:
    """All of it. Every method is one request to the daemon and takes the time of day."""

    def __init__(self, providers: list[Provider]) -> None:
        self.counts: dict[tuple[str, str], Count] = {}
        self.kept: dict[tuple[str, str], Count] = {}
        """What the disk has of them."""
        self.rests: dict[tuple[str, str], Rest] = {}
        self.kept_rests: dict[tuple[str, str], Rest] = {}
        self.requests: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.enabled: dict[str, bool] = {}
        self.pins: dict[str, str] = {}
        self.current: str | None = None
        self.leases: dict[str, Lease] = {}
        self.receipts: dict[str, Lease] = {}
        self.heard = 0.0
        self.configure(providers)

    def reload(self, providers: list[Provider], now: float) -> None:
        """Who is under way counts in limits that are new, too."""
        self.configure(providers)
        for lease, it in self.leases.items():
            p = self.providers.get(it.provider or "")
            if p is None or not it.held or it.stage != "reserved":
                continue
            for per in p.limits:
                if (p.name, per) not in {(name, known) for name, known, _ in it.slots}:
                    count = self.counts[p.name, per]
                    count.turn(now)
                    count.waiting.add(lease)
                    it.slots.append((p.name, per, count.start))

    def configure(self, providers: list[Provider]) -> None:
        self.providers = {p.name: p for p in providers}
        for p in providers:
            self.requests.setdefault(p.name, 0)
            self.errors.setdefault(p.name, 0)
            self.enabled.setdefault(p.name, True)
            for scope in ("server", "account"):
                self.rests.setdefault((p.name, scope), Rest())
            for per in p.limits:
                self.counts.setdefault((p.name, per), Count(SPAN[per]))

    def restart(self, now: float) -> None:
        """Die and come back: what was durable is there, what was under way is not."""
        self.counts = {key: replace(count, waiting=set()) for key, count in self.kept.items()}
        self.rests = {
            key: Rest(rest.until, rest.changed, early=rest.early)
            for key, rest in self.kept_rests.items()
            if rest.until is not None and now < rest.until
        }
        self.leases = {
            name: replace(lease, held=False, counted=list(lease.counted)) for name, lease in self.receipts.items()
        }
        self.heard = 0.0
        self.configure(list(self.providers.values()))

    def decide(self, asked: str, now: float, *, early: bool) -> Decision:
        """`early`: a request that may try a long rest before its end, as each that belongs to no session."""
        pin = self.pins.get("m") or self.pins.get("*")
        ordered = sorted(self.providers.values(), key=lambda p: (p.name != pin, p.priority))
        times = []
        lost = ""
        for p in ordered:
            cause, at = self.refusal(p, now, early=early or p.name == pin)
            if not cause:
                tries = any(rest.until is not None for rest in self.rests_of(p.name))
                reason = "probe" if tries else "pinned" if p.name == pin else lost or "preferred"
                return Decision(p.name, None, reason)
            if p.name == asked:
                lost = cause
            times += [at] if at is not None else []
        return Decision(None, min(times, default=None))

    def refusal(self, p: Provider, now: float, *, early: bool) -> tuple[str, float | None]:
        """Why a provider cannot serve, in a word, and until when."""
        if not self.enabled[p.name]:
            return "disabled", None
        rests_until = max(rest.free_at(now, early=early) for rest in self.rests_of(p.name))
        full = [
            self.counts[p.name, per].end
            for per, most in p.limits.items()
            if sum(self.counts[p.name, per].usage(now)) >= most
        ]
        if full and max(full) > max(rests_until, now):
            return "limit", max(full)
        return ("cooldown", rests_until) if rests_until > now else ("", None)

    def rests_of(self, name: str) -> list[Rest]:
        return [self.rests[name, "server"], self.rests[name, "account"]]

    def acquire(self, asked: str, now: float, lease: str | None) -> Decision:
        """`lease` is the name that the daemon gave, if it gave one."""
        self.lapse(now)
        decision = self.decide(asked, now, early=True)
        if lease is not None and decision.provider is not None:
            held = self.leases[lease] = Lease(decision.provider, now, held=True)
            for per in self.providers[decision.provider].limits:
                count = self.counts[decision.provider, per]
                count.turn(now)
                count.waiting.add(lease)
                held.slots.append((decision.provider, per, count.start))
            for rest in self.rests_of(decision.provider):
                if rest.until is not None:
                    rest.probes[lease] = now + PROBE, True
        return decision

    def report(
        self, name: str, outcome: str, now: float, lease: str | None, hint: float | None
    ) -> Literal["new", "duplicate"]:
        """`outcome` is `accepted`, `ok`, `cancelled`, `unsent` or `error`; with a hint the error is a rate limit."""
        begun = self.leases.get(lease or "")
        was_held = begun is not None and begun.held
        self.lapse(now)
        it = begun or Lease(None, now)
        if it.stage == "final" or it.stage == outcome == "accepted":
            return "duplicate"
        provider = it.provider or name
        if not was_held and provider not in self.providers:
            self.remember(lease, it, "final")
            return "new"
        if lease is not None or outcome != "accepted":
            self.errors[provider] += outcome == "error"
            self.count(provider, lease, it, now, refused=outcome in {"error", "unsent"}, unsent=outcome == "unsent")
        started = min(now, it.at) if was_held else now
        for scope in ("server", "account"):
            rest = self.rests[provider, scope]
            before = replace(rest)
            if outcome in {"ok", "accepted"}:
                rest.good(lease, started, now)
            elif outcome == "error" and hint is not None and scope == "account":
                rest.bad(lease, started, now, hint)
            elif outcome == "error":
                rest.missed(lease, now)
            self.keep_rest(provider, scope, before)
        if outcome in {"ok", "accepted"}:
            self.current = provider
        if outcome != "accepted":
            self.land(lease, it)
        self.remember(lease, it, "accepted" if outcome == "accepted" else "final")
        return "new"

    def count(self, provider: str, lease: str | None, it: Lease, now: float, *, refused: bool, unsent: bool) -> None:
        if it.stage == "reserved" and it.held and lease is not None:
            self.settle(lease, it, now, counts=not refused)
            self.requests[provider] += not refused
        elif it.stage == "reserved" and not refused:
            for per in self.providers[provider].limits:
                count = self.counts[provider, per]
                count.turn(now)
                count.used += 1
                it.counted.append((provider, per, count.start))
                self.keep(provider, per)
            self.requests[provider] += 1
        elif (it.stage == "lapsed" and refused) or (it.stage == "accepted" and unsent):
            for name, per, start in it.counted:
                count = self.counts[name, per]
                if name in self.providers and per in self.providers[name].limits:
                    count.turn(now)
                    if count.start == start:
                        count.used = max(0, count.used - 1)
                    self.keep(name, per)
            it.counted = []
            self.requests[provider] = max(0, self.requests[provider] - 1)

    def settle(self, lease: str, it: Lease, now: float, *, counts: bool) -> None:
        """A reservation becomes a request that counts, in its own window, or is given back."""
        for name, per, start in it.slots:
            count = self.counts[name, per]
            count.turn(now)
            if lease in count.waiting:
                count.waiting.remove(lease)
                count.used += counts
            if counts:
                it.counted.append((name, per, start))
            self.keep(name, per)
        it.slots = []

    def land(self, lease: str | None, it: Lease) -> None:
        """A request is no longer under way; what it tried may be tried by the next one."""
        if it.held:
            it.held = False
            for rest in self.rests_of(it.provider or ""):
                rest.probes.pop(lease or "", None)

    def let_go(self, lease: str, now: float) -> None:
        it = self.leases[lease]
        self.land(lease, it)
        if it.stage == "reserved":
            self.settle(lease, it, now, counts=True)
            self.requests[it.provider or ""] += 1
            it.stage = "lapsed"
        self.remember(lease, it, it.stage)

    def lapse(self, now: float) -> None:
        """Let go of what is under way for too long; a clock that steps back makes nothing longer."""
        for lease, it in list(self.leases.items()):
            if it.held:
                if now < self.heard:
                    it.at = min(it.at, now)
                if it.at + LEASE <= now:
                    self.let_go(lease, now)
        self.heard = now

    def hang_up(self, leases: list[str], now: float) -> None:
        for lease in leases:
            if lease in self.leases and self.leases[lease].held:
                self.let_go(lease, now)

    def remember(self, lease: str | None, it: Lease, stage: Literal["reserved", "accepted", "lapsed", "final"]) -> None:
        if lease is not None:
            it.stage = stage
            self.leases[lease] = it
            self.receipts[lease] = replace(it, counted=list(it.counted), slots=[])

    def keep(self, name: str, per: str) -> None:
        self.kept[name, per] = replace(self.counts[name, per], waiting=set())

    def keep_rest(self, name: str, scope: str, before: Rest | None = None) -> None:
        rest = self.rests[name, scope]
        if before is None or (before.until, before.early) != (rest.until, rest.early):
            self.kept_rests[name, scope] = replace(rest)

    def rest(self, name: str, until: float, now: float) -> None:
        rest = self.rests[name, "server"]
        rest.until, rest.changed, rest.early = until, now, None
        rest.overtake()
        self.keep_rest(name, "server")

    def pin(self, name: str | None, model: str | None, now: float) -> None:
        if name is None:
            for key in list(self.pins) if model is None else [model]:
                self.pins.pop(key, None)
        else:
            self.pins[model or "*"] = self.current = name
            for scope in ("server", "account"):
                rest = self.rests[name, scope]
                if rest.until is not None and now < rest.until:
                    rest.early = now
                    self.keep_rest(name, scope)

    def reset(self, what: str, name: str | None, now: float) -> None:
        for p in [name] if name is not None else list(self.providers):
            if what in {"counters", "all"}:
                for per in self.providers[p].limits:
                    self.counts[p, per].forget(now)
                    self.keep(p, per)
                self.requests[p] = self.errors[p] = 0
            if what == "all":
                self.enabled[p] = True
            if what in {"cooldowns", "all"}:
                for scope in ("server", "account"):
                    rest = self.rests[p, scope]
                    rest.until, rest.changed, rest.probes, rest.early = None, now, {}, None
                    self.keep_rest(p, scope)

    def status(self, now: float) -> dict[str, object]:
        """What a person sees."""
        return {
            "current": self.current if self.current in self.providers else None,
            "pins": self.pins,
            "providers": {name: self.look(p, now) for name, p in self.providers.items()},
        }

    def look(self, p: Provider, now: float) -> dict[str, object]:
        cause, until = self.refusal(p, now, early=False)
        used = {per: self.counts[p.name, per].usage(now) for per in p.limits}
        return {
            "enabled": self.enabled[p.name],
            "available": not cause,
            "until": until,
            "errors": self.errors[p.name],
            "requests": next((n for n, _ in used.values()), self.requests[p.name]),
            "in_flight": sum(it.held and it.provider == p.name for it in self.leases.values()),
            "used": used,
            "resets_at": {per: self.counts[p.name, per].resets_at(now) for per in p.limits},
        }
