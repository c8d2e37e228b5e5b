"""A circuit breaker a scope: closed, open until a time, half open for one probe.

No timer is needed to be right: an open breaker whose time has passed *is* half open, by reading the clock
that every call hands in. Everything that changes a breaker is in this file, and each change is an event.

`TRANSITIONS` says to which state an event leads; an event that is not in it for the present state changes nothing.
What an event does to the other variables:

    event         until      level     reason  changed  early_at       silent        probes      streak, recent
    refused       computed   +1 (1)    kind    now      in 1 h (2)     by the error  overtaken   forgotten
    told          hint (3)   -         kind    now      in 1 h (2)     by the error  overtaken   forgotten
    early_failed  -          -         -       -        in 2 h (2)     -             -           -
    probe_passed  0          halved    empty   now      none           no            forgotten   -
    heard         0          0         empty   now      none           no            forgotten   -
    ordered       the order  -         given   now      none           no            overtaken   -
    pinned        -          -         -       -        now            -             -           -
    cleared       0          0         empty   now      none           no            forgotten   forgotten

(1) For kinds whose rest doubles. (2) None where the block ends before, or lasts an hour at the most.
(3) With jitter, and never sooner than the end that stands. Where an early probe is told so, the next one leaves in 2 h.

Every event that opens a closed breaker first takes one off the level for each hour for which the breaker was closed. A
lease whose outcome is reported leaves `probes`. Beside these events, `admit` and `release` change `probes`, `sample`
changes `streak` and `recent`, and nothing else.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from rlmd.core.model import HOUR, Cooldown, Kind, Verdict

BreakerState = Literal["closed", "open", "half_open"]
Event = Literal["refused", "told", "early_failed", "probe_passed", "heard", "ordered", "pinned", "cleared"]

TRANSITIONS: dict[tuple[BreakerState, Event], BreakerState] = {
    # "refused": a block without a hint. "told": the provider said until when.
    ("closed", "refused"): "open",
    ("closed", "told"): "open",
    ("open", "told"): "open",
    ("half_open", "refused"): "open",
    ("half_open", "told"): "open",
    # A probe may leave while a long block still lasts.
    ("open", "early_failed"): "open",
    ("open", "probe_passed"): "closed",
    ("half_open", "probe_passed"): "closed",
    # Somebody answers again, after a time in which nobody did.
    ("open", "heard"): "closed",
    ("half_open", "heard"): "closed",
    ("closed", "ordered"): "open",
    ("open", "ordered"): "open",
    ("half_open", "ordered"): "open",
    # The person puts the provider first: the next request tries it.
    ("open", "pinned"): "open",
    ("open", "cleared"): "closed",
    ("half_open", "cleared"): "closed",
}

DOUBLES: frozenset[Kind] = frozenset({"throttle", "quota", "transient"})
"""Kinds whose rest is twice as long each time: only these raise the level."""
LONG_BLOCK = HOUR
"""A block longer than this may be probed early: stated resets of plans are often wrong."""
EARLY_FIRST = HOUR
EARLY_AGAIN = 2 * HOUR
"""Seconds until a long block is probed early for the first time, and after a probe that failed."""
LEVEL_AGES = HOUR
"""Seconds that a breaker is closed until its level falls by one."""
QUOTA_MAX = 8 * HOUR
TRANSIENT_FIRST = 30.0
TRANSIENT_IN_A_ROW = 5
TRANSIENT_SPAN = 60.0
TRANSIENT_BUCKETS = 12
TRANSIENT_WAIT = 60.0
"""The longest wait, in seconds, that is believed of a server that fails: such a wait is a gateway's habit."""
UNREACHABLE_IN_A_ROW = 3
UNREACHABLE = 10.0
PROBE = 20.0
"""Seconds for which a probe has a half-open breaker to itself: others wait that long for its outcome, not for
the end of its lease, which may be a quarter of an hour away. A slower probe still counts when its outcome is known."""
LEVEL_MOST = 60
"""The highest level that still makes a block longer: a power of two beyond it would be none that a float can hold."""
JITTER_MAX = 30.0
JITTER_SHARE = 0.2


def rest(kind: Kind, level: int, cooldown: Cooldown) -> float:
    """How many seconds a block lasts whose provider gave no hint; `level` counts from 1."""
    level = min(level, LEVEL_MOST)
    match kind:
        case "throttle":
            return min(cooldown.throttle * 2.0 ** (level - 1), cooldown.throttle_max)
        case "quota":
            return min(cooldown.default * 2.0 ** (level - 1), max(QUOTA_MAX, cooldown.default))
        case "transient":
            return min(TRANSIENT_FIRST * 2.0 ** (level - 1), cooldown.throttle_max)
        case "unreachable":
            return UNREACHABLE
        case "overloaded":
            return cooldown.overloaded
        case _:
            return cooldown.default


def jitter(hint: float, rand: float) -> float:
    """Seconds on top of a hint, so that parallel agents do not come back together; `rand` is in [0, 1)."""
    return rand * min(JITTER_MAX, JITTER_SHARE * hint)


class Probe(Struct):
    """One lease that tries a breaker out."""

    keeps_until: float
    """Until when the probe keeps all other requests waiting."""
    overtaken: bool = False
    """The breaker was opened again while the probe was under way: the probe's outcome is no evidence."""


class Breaker(Struct):
    """What rests, until when and why. The fields down to `silent` are durable."""

    opened: bool = False
    until: float = 0.0
    level: int = 0
    changed: float = 0.0
    """When the breaker was last opened or closed, or its end last became later."""
    reason: str = ""
    early_at: float | None = None
    """From when one request may try a long block before its end."""
    silent: bool = False
    """Rests only because nothing answered: where nobody else can serve either, the rest holds no request back."""
    probes: dict[str, Probe] = {}
    """Leases that try the breaker out. The slow ones are among them."""
    streak: int = 0
    """Failures in a row: transient, or no answer."""
    recent: dict[int, tuple[int, int]] = {}
    """Results and such failures by span of TRANSIENT_SPAN / TRANSIENT_BUCKETS seconds."""

    def state(self, now: float) -> BreakerState:
        """Read the state at this time."""
        if not self.opened:
            return "closed"
        return "open" if now < self.until else "half_open"

    def free_at(self, now: float, *, early: bool = False) -> float:
        """When a request may pass if nothing else happens; a time not after `now` means now.

        `early`: the request is one that may try a long block before its end. There is one such probe at a time,
        however slow: all others have somewhere else to go, or a long wait before them anyway.
        """
        if not self.opened:
            return now
        at = self.until
        if early and self.early_at is not None and not self.probes:
            at = min(at, self.early_at)
        for probe in self.probes.values():
            if now < probe.keeps_until:
                at = max(at, probe.keeps_until)
        return at

    def admit(self, lease: str, now: float) -> None:
        """Let a request pass that `free_at` allows; its lease is a probe."""
        self.probes[lease] = Probe(now + PROBE)

    def release(self, lease: str) -> None:
        """Forget a probe whose outcome says nothing about this breaker: the next request becomes one."""
        self.probes.pop(lease, None)

    def missed(self, lease: str, now: float) -> bool:
        """Take in that a probe failed for another reason. True where something durable changed.

        The next request tries again at once; a long block waits for the next early probe.
        """
        return self._ends_probe(lease) and self._early_failed(now)

    def is_late(self, started: float, now: float) -> bool:
        """Whether a request that started then says nothing about what this breaker has become since."""
        if self.opened and now >= self.until:
            return started < self.until
        return started < self.changed <= now  # where that lies ahead, the clock has stepped back: nobody knows

    def sample(self, now: float, *, failed: bool) -> None:
        """Note a result, for telling one failure from too many."""
        span = int(now // (TRANSIENT_SPAN / TRANSIENT_BUCKETS))
        if span not in self.recent:
            self.recent = {s: n for s, n in self.recent.items() if span - TRANSIENT_BUCKETS < s <= span}
        results, failures = self.recent.get(span, (0, 0))
        self.recent[span] = (results + 1, failures + failed)
        self.streak = self.streak + 1 if failed else 0

    def passed(self, lease: str | None, started: float, now: float) -> bool:
        """Take a success in. True where something durable changed."""
        is_probe = self._ends_probe(lease)
        if self.is_late(started, now) and not is_probe:
            return False
        # Without a lease a success in the open state is a straggler; in the half-open one it is evidence.
        if not is_probe and self.state(now) != "half_open":
            return False
        if not self._go("probe_passed", now):
            return False
        self.level //= 2
        self._close(now)
        return True

    def heard(self, now: float) -> bool:
        """Take in that somebody answers again: what rests only because nothing answered rests no longer.

        True where something durable changed.
        """
        if not self.silent or not self._go("heard", now):
            return False
        self.level = 0
        self._close(now)
        return True

    def failed(
        self,
        verdict: Verdict,
        *,
        lease: str | None,
        started: float,
        now: float,
        cooldown: Cooldown,
        rand: float,
        window_end: float | None = None,
        silent: bool = False,
    ) -> bool:
        """Take in a failure of this breaker's scope that blocks. True where something durable changed.

        `window_end` is when the exhausted window that a quota without a hint speaks of ends. `silent`: nothing
        answered the request.
        """
        is_probe = self._ends_probe(lease)
        state = self.state(now)
        late = self.is_late(started, now) and not is_probe
        early = is_probe and state == "open" and self._early_failed(now)
        hint = verdict.hint
        if verdict.kind in {"transient", "unreachable"}:
            if late or not self._trips(verdict.kind, state, now):
                return early
            hint = None if hint is None else min(hint, TRANSIENT_WAIT)
        if late and (hint is None or not self.opened):
            return False
        if hint is not None:
            until = now + hint + jitter(hint, rand)
            return self._told(verdict.kind, until, now, early=early, silent=silent) or early
        return self._refused(verdict.kind, now, cooldown, window_end, silent=silent) or early

    def _refused(self, kind: Kind, now: float, cooldown: Cooldown, window_end: float | None, *, silent: bool) -> bool:
        if not self._go("refused", now):
            return False
        self.level += kind in DOUBLES
        length = rest(kind, max(1, self.level), cooldown)
        until = window_end if kind == "quota" and window_end is not None and window_end > now else now + length
        self._open(until, kind, now, silent=silent)
        return True

    def _told(self, kind: Kind, until: float, now: float, *, early: bool, silent: bool) -> bool:
        if until <= self.until or not self._go("told", now):
            return False
        self._open(until, kind, now, silent=silent, pause=EARLY_AGAIN if early else EARLY_FIRST)
        return True

    def order(self, until: float, reason: str, now: float) -> None:
        """Open by hand: neither level nor early probes have a say."""
        self._go("ordered", now)
        self.until, self.reason, self.changed, self.early_at, self.silent = until, reason, now, None, False
        self._overtake()

    def pin(self, now: float) -> bool:
        """Let the next request try a block because the person puts its provider first. True where it may now."""
        if not self._go("pinned", now):
            return False
        self.early_at = now
        return True

    def clear(self, now: float) -> None:
        """Close by hand and forget the level."""
        self._go("cleared", now)
        self.level, self.streak, self.recent = 0, 0, {}
        self._close(now)

    def row(self) -> dict[str, object] | None:
        """Give the durable part, None where there is nothing to remember."""
        if not self.opened and self.level == 0:
            return None
        return {
            "opened": self.opened,
            "until": self.until,
            "level": self.level,
            "changed": self.changed,
            "reason": self.reason,
            "early_at": self.early_at,
            "silent": self.silent,
        }

    def _open(self, until: float, reason: str, now: float, *, silent: bool, pause: float = EARLY_FIRST) -> None:
        self.until, self.reason, self.changed, self.silent = until, reason, now, silent
        self.streak, self.recent = 0, {}
        self._plan_early_probe(now, pause)
        self._overtake()

    def _close(self, now: float) -> None:
        self.until, self.reason, self.changed, self.silent = 0.0, "", now, False
        self.early_at, self.probes = None, {}

    def _overtake(self) -> None:
        for probe in self.probes.values():
            probe.overtaken = True

    def _ends_probe(self, lease: str | None) -> bool:
        """Note that a lease is over. True where it was a probe and nothing has become known since the probe left."""
        if lease is None:
            return False
        probe = self.probes.pop(lease, None)
        return probe is not None and not probe.overtaken

    def _early_failed(self, now: float) -> bool:
        """Put the next early probe off. True where there was one to put off."""
        if self.early_at is None or not self._go("early_failed", now):
            return False
        self._plan_early_probe(now, EARLY_AGAIN)
        return True

    def _plan_early_probe(self, now: float, pause: float) -> None:
        self.early_at = now + pause if self.until - now > max(pause, LONG_BLOCK) else None

    def _go(self, event: Event, now: float) -> bool:
        before = self.state(now)
        after = TRANSITIONS.get((before, event))
        if after is None:
            return False
        if before == "closed" and now > self.changed:
            self.level = max(0, self.level - int((now - self.changed) // LEVEL_AGES))
        self.opened = after != "closed"
        return True

    def _trips(self, kind: Kind, state: BreakerState, now: float) -> bool:
        """Count a failure of a server and tell whether it is one too many."""
        self.sample(now, failed=True)
        if state == "half_open":
            return True
        if kind == "unreachable":
            return self.streak >= UNREACHABLE_IN_A_ROW
        results = sum(n for n, _ in self.recent.values())
        failures = sum(n for _, n in self.recent.values())
        enough = results >= TRANSIENT_IN_A_ROW and failures * 2 > results
        return self.streak >= TRANSIENT_IN_A_ROW or enough
