"""A circuit breaker a scope: closed, open until a time, half open for one probe.

No timer is needed to be right: an open breaker whose time has passed *is* half open, by reading the clock
that every call hands in. What may happen in which state is the table `TRANSITIONS`; an event that is not in
it for the present state changes nothing. Nothing is decided here about who is asked next.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from rlmd.core.model import HOUR, Cooldown, Kind, Verdict

BreakerState = Literal["closed", "open", "half_open"]
Event = Literal["refused", "told", "probe_passed", "ordered", "cleared"]

TRANSITIONS: dict[tuple[BreakerState, Event], BreakerState] = {
    # "refused": a block without a hint. "told": the provider said until when.
    ("closed", "refused"): "open",
    ("closed", "told"): "open",
    ("open", "told"): "open",
    ("half_open", "refused"): "open",
    ("half_open", "told"): "open",
    ("half_open", "probe_passed"): "closed",
    # An early probe of a long block is held while the breaker is still open.
    ("open", "probe_passed"): "closed",
    ("closed", "ordered"): "open",
    ("open", "ordered"): "open",
    ("half_open", "ordered"): "open",
    ("open", "cleared"): "closed",
    ("half_open", "cleared"): "closed",
}

LONG_BLOCK = HOUR
"""A block longer than this may be probed early: stated resets of plans are often wrong."""
QUOTA_MAX = 8 * HOUR
TRANSIENT_FIRST = 30.0
TRANSIENT_IN_A_ROW = 5
TRANSIENT_SPAN = 60.0
TRANSIENT_BUCKETS = 12
PROBE = 20.0
"""Seconds for which a probe has a half-open breaker to itself: others wait that long for its outcome, not for
the end of its lease, which may be a quarter of an hour away. A slower one still counts when it is back."""
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
        case "overloaded":
            return cooldown.overloaded
        case _:
            return cooldown.default


def jitter(hint: float, rand: float) -> float:
    """Seconds on top of a hint, so that parallel agents do not come back together; `rand` is in [0, 1)."""
    return rand * min(JITTER_MAX, JITTER_SHARE * hint)


class Breaker(Struct):
    """What rests, until when and why. The fields down to `early_at` are durable."""

    opened: bool = False
    until: float = 0.0
    level: int = 0
    changed: float = 0.0
    """When it was last opened or closed, or what it knows last became worse."""
    reason: str = ""
    early_at: float | None = None
    probe: str | None = None
    """The lease that tries it out."""
    probe_until: float = 0.0
    """Until when it keeps all others waiting."""
    overtaken: bool = False
    """It has been opened again since the probe left, which is still the only one out."""
    streak: int = 0
    """Transient failures in a row."""
    recent: dict[int, tuple[int, int]] = {}
    """Results and transient failures by span of TRANSIENT_SPAN / TRANSIENT_BUCKETS seconds."""

    def state(self, now: float) -> BreakerState:
        """Read the state at this time."""
        if not self.opened:
            return "closed"
        return "open" if now < self.until else "half_open"

    def free_at(self, now: float, *, early: bool = False) -> float:
        """When a request may pass if nothing else happens; a time not after `now` means now.

        `early`: the request is one that may try a long block before its time.
        """
        if not self.opened:
            return now
        at = self.until
        if early and self.early_at is not None:
            at = min(at, self.early_at)
        if self.probe is not None and now < self.probe_until:
            at = max(at, self.probe_until)
        return at

    def admit(self, lease: str, now: float) -> None:
        """Let a request pass that `free_at` allows; while this is not closed, its lease is the probe."""
        self.probe, self.probe_until, self.overtaken = lease, now + PROBE, False

    def release(self, lease: str) -> None:
        """Forget a probe whose outcome says nothing about this breaker: the next request becomes one."""
        if self.probe == lease:
            self.probe = None

    def missed(self, lease: str, now: float) -> bool:
        """Take in that a probe failed for another reason. True where something durable changed.

        The next request tries again at once; a long block is not tried early once more before half of what is left.
        """
        if not self._ends_probe(lease) or self.early_at is None:
            return False
        self._plan_early_probe(now)
        return True

    def is_late(self, started: float, now: float) -> bool:
        """Whether a request that started then says nothing about what this breaker has become since."""
        if self.opened and now >= self.until:
            return started < self.until
        return started < self.changed <= now  # where that lies ahead, the clock has stepped back: nobody knows

    def sample(self, now: float, *, failed: bool) -> None:
        """Note a result, for telling one transient failure from too many."""
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
        self.until, self.reason, self.early_at, self.changed, self.probe = 0.0, "", None, now, None
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
    ) -> bool:
        """Take in a failure of this breaker's scope that blocks. True where something durable changed.

        `window_end` is when the exhausted window that a quota without a hint speaks of ends.
        """
        is_probe = self._ends_probe(lease)
        state = self.state(now)
        if is_probe and state == "open":
            self._plan_early_probe(now)
            return True
        late = self.is_late(started, now) and not is_probe
        if verdict.hint is None:
            if late or (verdict.kind == "transient" and not self._trips(state, now)):
                return False
            return self._refused(verdict.kind, now, cooldown, window_end)
        return self._told(verdict, now, rand, late=late)

    def _refused(self, kind: Kind, now: float, cooldown: Cooldown, window_end: float | None) -> bool:
        if not self._go("refused", now):
            return False
        self.level += 1
        length = rest(kind, self.level, cooldown)
        until = window_end if kind == "quota" and window_end is not None and window_end > now else now + length
        self._open(until, kind, now)
        return True

    def _told(self, verdict: Verdict, now: float, rand: float, *, late: bool) -> bool:
        hint = verdict.hint or 0.0
        until = now + hint + jitter(hint, rand)
        if late and not self.opened:
            return False
        if until <= self.until or not self._go("told", now):
            return False
        self._open(max(until, self.until), verdict.kind, now)
        return True

    def order(self, until: float, reason: str, now: float) -> None:
        """Open by hand: neither level nor early probes have a say."""
        self._go("ordered", now)
        self.until, self.reason, self.changed, self.early_at, self.overtaken = until, reason, now, None, True

    def clear(self, now: float) -> None:
        """Close by hand and forget the level."""
        self._go("cleared", now)
        self.until, self.level, self.reason, self.changed = 0.0, 0, "", now
        self.early_at, self.probe, self.streak, self.recent = None, None, 0, {}

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
        }

    def _open(self, until: float, reason: str, now: float) -> None:
        self.until, self.reason, self.changed = until, reason, now
        self.streak, self.recent, self.overtaken = 0, {}, True
        self._plan_early_probe(now)

    def _ends_probe(self, lease: str | None) -> bool:
        """Note that a lease is over. True where it was the probe and nothing has become known since it left."""
        if lease is None or self.probe != lease:
            return False
        self.probe = None
        return not self.overtaken

    def _plan_early_probe(self, now: float) -> None:
        left = self.until - now
        self.early_at = now + left / 2 if left > LONG_BLOCK else None

    def _go(self, event: Event, now: float) -> bool:
        after = TRANSITIONS.get((self.state(now), event))
        if after is None:
            return False
        self.opened = after != "closed"
        return True

    def _trips(self, state: BreakerState, now: float) -> bool:
        """Count a transient failure and tell whether it is one too many."""
        self.sample(now, failed=True)
        results = sum(n for n, _ in self.recent.values())
        failures = sum(n for _, n in self.recent.values())
        enough = results >= TRANSIENT_IN_A_ROW and failures * 2 > results
        return state == "half_open" or self.streak >= TRANSIENT_IN_A_ROW or enough
