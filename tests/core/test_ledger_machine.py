"""Any history of requests, results, orders and clock steps: what must always hold of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from story import MODEL, NOON, Story, limit, provider

from rlmd.core import commands
from rlmd.core.breaker import PROBE
from rlmd.core.leases import LEASE
from rlmd.core.model import Policy, Use, Wait
from rlmd.core.requests import Acquire

if TYPE_CHECKING:
    from rlmd.core.breaker import Breaker
    from rlmd.core.model import Purpose
    from rlmd.core.target import Target

A = provider("a", 1, limit(3), limit(120, "1m", of="tokens"), account="key")
B = provider("b", 1, limit(4, "5m", window="first_use"), account="key")
C = provider("c", 2, limit(5, "90s"), limit(3, "1h", model=MODEL), context=110)
D = provider("d", 1, limit(2, "1d"), models=("llama",))
POLICIES = [
    (A, B, C, D),
    (A, C, D),
    (A, provider("b", 3, limit(2), account="own"), C, D),
    (provider("a", 2, limit(2), account="key"), B, provider("c", 1, limit(5, "90s"), models=(MODEL, "llama")), D),
]
"""What may be in force: each differs from the first in providers, accounts, limits or models."""
NAMES = st.sampled_from(["a", "b", "c"])
SESSIONS = st.sampled_from(["1", "2", "3", None])
ESTIMATES = st.one_of(st.none(), st.integers(0, 130))


class LedgerMachine(RuleBasedStateMachine):
    """Three providers of one model, two of them on one account, and a fallback, with limits of every kind."""

    leases = Bundle("leases")

    @initialize(
        strategy=st.sampled_from(["priority", "headroom"]),
        failback=st.sampled_from(["turn", "idle", "session"]),
        patience=st.sampled_from([0.0, 3.0]),
        fallback=st.booleans(),
    )
    def begin(self, strategy: str, failback: str, patience: float, *, fallback: bool) -> None:
        self.story = Story(
            *POLICIES[0],
            strategy=strategy,
            failback=failback,
            patience=patience,
            fallback={MODEL: ("llama",)} if fallback else {},
        )
        self.boots = 0
        self.asked: dict[str, tuple[str, str | None, int | None]] = {}
        """What each lease was asked for: provider, session, estimate."""
        self.probes: dict[str, str] = {}
        """By breaker the lease that tries it, as told from outside."""

    @rule(
        target=leases,
        asked=NAMES,
        session=SESSIONS,
        purpose=st.sampled_from(["turn", "step", "step", "aux"]),
        estimate=ESTIMATES,
        dry_run=st.booleans(),
    )
    def acquire(
        self, asked: str, session: str | None, purpose: Purpose, estimate: int | None, *, dry_run: bool
    ) -> object:
        room = self.room()
        if self.story.ledger.state.find(asked, MODEL) is None:
            return multiple()
        decision = self.story.ask(asked, session, purpose=purpose, estimate=estimate, dry_run=dry_run)
        if isinstance(decision, Wait):
            self.holds_at_the_time_it_names(decision, asked, session, purpose, estimate)
            return multiple()
        assert isinstance(decision, Use)
        self.is_configured(decision)
        if decision.lease is None:
            return multiple()
        self.asked[decision.lease] = asked, session, estimate
        for key, breaker in self.target(decision).breakers:
            if breaker.opened:
                assert breaker.silent or not self.is_trying(self.probes.get(key)), "a second probe"
                assert decision.reason == "probe"
                self.probes[key] = decision.lease
        for name, (left, of) in room.items():
            if name in {c.key for c in self.target(decision).counters}:
                amount = 1 if of == "requests" else estimate or 0
                assert amount <= left, f"admitted into a full window: {name}"
                assert amount or left > 0
        return decision

    def is_configured(self, use: Use) -> None:
        assert use.model in next(p for p in self.story.policy.providers if p.id == use.provider).models
        assert use.model in {MODEL, *self.story.policy.fallback.get(MODEL, ())}

    def holds_at_the_time_it_names(
        self, wait: Wait, asked: str, session: str | None, purpose: Purpose, estimate: int | None
    ) -> None:
        if wait.retry_at is None:
            assert all(r.until is None for r in wait.refusals)
            return
        assert wait.retry_at > self.story.now
        assert {r.provider for r in wait.refusals} <= {p.id for p in self.story.policy.providers}
        then = self.story.ledger.acquire(
            Acquire(asked, MODEL, session=session, purpose=purpose, estimate=estimate, dry_run=True), wait.retry_at
        )
        # Reading ahead has let leases lapse that would lapse by then; what they counted stays counted.
        self.story.settle(then)
        self.story.now = max(self.story.now, wait.retry_at)
        assert isinstance(then.reply, Use), (wait, then.reply)

    def room(self) -> dict[str, tuple[float, str]]:
        self.story.settle(self.story.ledger.release([], self.story.now))
        return {
            key: (c.limit.max - c.window.load(self.story.now), c.limit.of)
            for key, c in self.story.ledger.state.counters.items()
        }

    def is_trying(self, lease: str | None) -> bool:
        """Whether a probe is under way still."""
        held = self.story.ledger.leases.get(lease or "")
        return held is not None and held.receipt.stage == "reserved" and self.story.now < held.at + PROBE

    def target(self, use: Use) -> Target:
        return self.story.ledger.state.targets[use.provider][use.model]

    @rule(use=consumes(leases), outcome=st.sampled_from(["ok", "cancelled", "unsent"]), session=SESSIONS)
    def finish(self, use: Use, outcome: str, session: str | None) -> None:
        self.story.report(use, outcome, session=session)  # type: ignore[arg-type]
        held = self.story.ledger.leases.get(use.lease or "")
        assert held is None or held.slots, "what waits for its usage has something reserved"

    @rule(use=leases)
    def accept(self, use: Use) -> None:
        self.story.report(use, "accepted")

    @rule(
        use=consumes(leases),
        status=st.sampled_from([429, 402, 529, 500, 400, 401, 404, 503]),
        after=st.one_of(st.none(), st.sampled_from([0.5, 1.0, 2.0, 4.0, 60.0, 9000.0])),
        early=st.floats(0, 100),
        rand=st.floats(0, 0.99),
    )
    def refuse(self, use: Use, status: int, after: float | None, early: float, rand: float) -> None:
        started = self.story.now - early
        old = {key: rest for key, rest in self.rests().items() if self.probes.get(key) != use.lease}
        breakers = self.story.ledger.state.breakers
        late = {
            key: rest
            for key, rest in old.items()
            if self.is_late(breakers[key], started) and not breakers[key].silent  # an answer, however old, ends that
        }
        known = use.lease in self.story.ledger.leases
        recorded = self.story.refuse(use, after, status=status, rand=rand, started_at=started)
        for key, (opened, until, level) in late.items():
            now = self.rests()[key]
            assert now[2] == level
            assert now[:2] == (opened, until) or (after and opened and now[0] and now[1] > until), "a late result"
        asked, session, estimate = self.asked[use.lease or ""]
        if isinstance(recorded.next, Use):
            assert recorded.next.lease is None
            assert (recorded.next.provider, recorded.next.model) != (use.provider, use.model)
            self.is_configured(recorded.next)
        elif isinstance(recorded.next, Wait) and known and self.story.ledger.state.find(asked, MODEL):
            self.holds_at_the_time_it_names(recorded.next, asked, session, "step", estimate)

    @rule(use=consumes(leases), message=st.sampled_from(["connect ECONNREFUSED 10.0.0.1:443", "timed out"]))
    def get_no_answer(self, use: Use, message: str) -> None:
        known = use.lease in self.story.ledger.leases
        recorded = self.story.report(use, "error", message=message)
        asked, session, estimate = self.asked[use.lease or ""]
        if isinstance(recorded.next, Wait) and known and self.story.ledger.state.find(asked, MODEL):
            self.holds_at_the_time_it_names(recorded.next, asked, session, "step", estimate)

    @rule(leases=st.lists(consumes(leases), min_size=3, max_size=6))
    def lose_the_network(self, leases: list[Use]) -> None:
        for use in leases:
            self.get_no_answer(use, "timed out")

    @rule(seconds=st.sampled_from([30.0, 3600.0]))
    def sleep(self, seconds: float) -> None:
        self.story.now += seconds
        self.story.ledger.suspended(self.story.now)

    @invariant()
    def what_rests_because_nothing_answered_is_known_to(self) -> None:
        if hasattr(self, "story"):
            state = self.story.ledger.state
            assert {key for key, breaker in state.breakers.items() if breaker.silent} <= state.unanswered

    @rule(use=consumes(leases), status=st.sampled_from([429, 529]), after=st.sampled_from([None, 60.0]))
    def refuse_what_began_before_a_reset(self, use: Use, status: int, after: float | None) -> None:
        self.order("a", "reset")
        self.story.now += 1
        self.refuse(use, status, after, 2.0, 0.0)

    def rests(self) -> dict[str, tuple[bool, float, int]]:
        return {key: (b.opened, b.until, b.level) for key, b in self.story.ledger.state.breakers.items()}

    def is_late(self, breaker: Breaker, started: float) -> bool:
        """Whether a request began before the last change: an end that was read from the clock is one."""
        ended = breaker.opened and breaker.until <= self.story.now
        return started < breaker.until if ended else started < breaker.changed <= self.story.now

    @rule(use=leases)
    def report_twice(self, use: Use) -> None:
        self.story.report(use)
        before = dict(self.story.facts)
        assert self.story.report(use).duplicate
        assert self.story.facts == before

    @rule(use=leases, tokens=st.integers(0, 100))
    def meter(self, use: Use, tokens: int) -> None:
        self.story.meter(use.lease, input=tokens)

    @rule(use=consumes(leases))
    def hang_up(self, use: Use) -> None:
        self.story.settle(self.story.ledger.release([use.lease or ""], self.story.now))

    @rule(
        seconds=st.one_of(
            st.sampled_from([0.5, 1.0, 2.0, 10.0, 30.0, 60.0, LEASE, 3600.0, 90_000.0]), st.floats(0, 100)
        )
    )
    def pass_time(self, seconds: float) -> None:
        self.story.now += seconds

    @rule(seconds=st.floats(0, 4000))
    def step_the_clock_back(self, seconds: float) -> None:
        self.story.now -= seconds

    @rule()
    def roll(self) -> None:
        self.story.settle(self.story.ledger.roll(self.story.now))
        deadline = self.story.ledger.next_deadline()
        assert deadline is None or deadline > self.story.now

    @rule(use=leases, left=st.integers(0, 3), reset=st.sampled_from(["5s", "61s", "300s"]))
    def hear_what_is_left(self, use: Use, left: int, reset: str) -> None:
        headers = {
            "x-ratelimit-limit-requests": "9",
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": reset,
        }
        self.story.report(use, "accepted", headers=headers)

    @rule(
        name=st.sampled_from(["a", "b", "c", "d"]), what=st.sampled_from(["enable", "disable", "rest", "pin", "reset"])
    )
    def order(self, name: str, what: str) -> None:
        state, now = self.story.ledger.state, self.story.now
        if name not in state.targets:
            return
        match what:
            case "enable" | "disable":
                step = commands.enable(state, name, now, enabled=what == "enable")
            case "rest":
                step = commands.rest(state, name, None, now + 2, None, now)
            case "pin":
                step = commands.pin(state, name, None, now)
            case _:
                step = commands.reset(state, "all", None, now)
        self.story.settle(step)

    @rule(number=st.integers(0, len(POLICIES) - 1))
    def reload(self, number: int) -> None:
        old = self.story.policy
        self.story.policy = Policy(
            POLICIES[number],
            old.fallback,
            strategy=old.strategy,
            failback=old.failback,
            patience=old.patience,
            zone=old.zone,
        )
        self.story.reload(self.story.policy)

    @rule()
    def restart(self) -> None:
        self.boots += 1
        self.story.restart(boot=f"boot{self.boots}")

    @invariant()
    def nothing_is_negative_and_flight_is_what_is_leased(self) -> None:
        if not hasattr(self, "story"):
            return
        state, now = self.story.ledger.state, self.story.now
        for counter in state.counters.values():
            assert counter.window.used(now) >= 0
            assert counter.window.reserved(now) >= 0
        flying = [lease.target.provider.id for lease in self.story.ledger.leases.values() if lease.in_flight]
        assert {name: t.in_flight for name, t in state.totals.items()} == {
            name: flying.count(name) for name in state.totals
        }

    @invariant()
    def a_breaker_has_one_probe_and_it_is_under_way(self) -> None:
        if not hasattr(self, "story"):
            return
        leases = self.story.ledger.leases
        breakers = self.story.ledger.state.breakers
        self.probes = {key: lease for key, lease in self.probes.items() if breakers[key].opened}
        for breaker in self.story.ledger.state.breakers.values():
            if breaker.probes:
                assert breaker.opened
                assert breaker.probes.keys() <= leases.keys()


LedgerMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedger = pytest.mark.filterwarnings("default")(LedgerMachine.TestCase)


def test_a_time_before_the_epochs_of_all_windows_is_harmless() -> None:
    story = Story(provider("a", 1, limit(1)), now=NOON)
    story.report(story.use())
    story.now = NOON - 86_400
    assert isinstance(story.ask(), Wait), "a clock that steps back never re-opens an older window"
