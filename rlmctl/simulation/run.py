"""The agents and the clock of a simulation. The agents behave as the shims do; the clock jumps from event to event.

Simplified: the way to the provider takes no time; `accepted` is reported where it decides something, of a probe;
requests of one conversation may overlap, but what comes up behind one that waits goes out one after the other.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from heapq import heappop, heappush
from math import log
from typing import TYPE_CHECKING

from msgspec import Struct

from rlmctl.simulation.provider import build
from rlmctl.simulation.result import Hit, Result
from rlmd.core.ledger import Ledger
from rlmd.core.model import HOUR, Notice, Recorded, Usage, Use, Wait
from rlmd.core.requests import Acquire, Report
from rlmd.core.text import stated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from rlmctl.simulation.provider import Behaviour, Rejection
    from rlmd.core.model import Outcome, Policy, Purpose

FIRST_BYTE = 1.0
"""Seconds after which a provider begins to answer, or rejects, on average: half to one and a half times as many."""
TRIES = 5
"""So often an agent sends one request; then the error ends its turn."""
PAUSE = 2.0
"""Seconds after which an agent sends again what failed, where the ledger names no other way; doubles."""


class Load(Struct, frozen=True):
    """What the agents ask for. Times are epoch seconds, spans seconds."""

    start: float
    span: float
    rate: float
    """Requests a second, on average; they come independently of each other (Poisson)."""
    provider: str
    """Where the agents would send them by themselves."""
    model: str
    """The agents' own name of it there."""
    sessions: int = 40
    """Conversations. Each request belongs to any one of them."""
    turn: int = 20
    """Requests of a person's turn, on average."""
    duration: float = 10.0
    """How long an answer takes, on average."""
    input: int = 8000
    """Tokens of a request, on average: half to one and a half times as many. The agents know them beforehand."""
    output: int = 500
    """Tokens of its answer, likewise. Nobody knows them before its end."""
    wait: float = 120.0
    """How long an agent waits while everybody is limited."""


class Session:
    """One conversation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.home: tuple[str, str] | None = None
        """Provider and model that its turn began with; None: the next request begins a turn."""
        self.held: deque[Request] = deque()
        """The first one waits until it may be sent, or for its first byte, and the others wait for it."""


class Request(Struct):
    """One request of an agent, through all its tries."""

    session: Session
    came: float
    input: int
    output: int
    tries: int = 0
    waited: bool = False


class Simulation:
    """One run. `policy` is what the ledger knows, `behaviours` where a provider differs from it."""

    def __init__(self, policy: Policy, load: Load, behaviours: Mapping[str, Behaviour], rng: Random) -> None:
        self._load = load
        self._ledger = Ledger("simulated")
        self._ledger.configure(policy, load.start)
        self._places = build(policy, behaviours)
        self._metered = any(limit.of != "requests" for provider in policy.providers for limit in provider.limits)
        """Tokens are told to the ledger where it counts them."""
        self._random = rng.random
        self._first = load.provider, load.model
        self._sessions = [Session(f"session-{n}") for n in range(1, load.sessions + 1)]
        self._events: list[tuple[float, int, Callable[[float], object]]] = []
        self._planned = 0
        self._result = Result.over(load.start, load.span)
        self._rests: dict[str, Hit] = {}
        """The last rejection of each account that nobody could foresee."""

    def run(self) -> Result:
        """Let the time pass."""
        load, events, random = self._load, self._events, self._random
        end = load.start + load.span
        arrival = load.start - log(1.0 - random()) / load.rate
        hour_ends = load.start + HOUR
        while True:
            now = events[0][0] if events and events[0][0] < arrival else arrival
            if now >= end:
                return self._result
            if now >= hour_ends:
                # What a daemon's timers announce. It decides nothing, but what is never announced piles up.
                self._ledger.roll(now)
                hour_ends += HOUR
            if now < arrival:
                heappop(events)[2](now)
            else:
                self._arrive(self._sessions[int(random() * load.sessions)], now)
                arrival -= log(1.0 - random()) / load.rate

    def _plan(self, at: float, act: Callable[[float], object]) -> None:
        self._planned += 1  # of what happens at one time, what was planned first comes first
        heappush(self._events, (at, self._planned, act))

    def _arrive(self, session: Session, now: float) -> None:
        """Let a request come up, behind those of its session that wait."""
        load, random = self._load, self._random
        self._result.requests += 1
        request = Request(session, now, int(load.input * (0.5 + random())), int(load.output * (0.5 + random())))
        if session.held:
            request.waited = True
            session.held.append(request)
        else:
            self._ask(request, now)

    def _acquire(self, session: Session, purpose: Purpose, tokens: int, now: float) -> Use | Wait:
        provider, model = session.home or self._first
        step = self._ledger.acquire(Acquire(provider, model, session.name, purpose=purpose, estimate=tokens), now)
        if step.notices:
            self._note(step.notices)
        match step.reply:
            case Use() | Wait() as reply:
                return reply
        raise TypeError(f"{provider}/{model} is not in the policy: {step.reply}")

    def _ask(self, request: Request, now: float) -> None:
        """Ask where a request goes; send it there, or let it wait."""
        session, random = request.session, self._random
        if session.home is None or (not (request.tries or request.waited) and random() * self._load.turn < 1.0):
            session.home = self._first
            start = self._acquire(session, "turn", request.input, now)
            if isinstance(start, Wait):
                self._hold(request, start.retry_at, now)
                return
            session.home = start.provider, start.model
        use = self._acquire(session, "step", request.input, now)
        if isinstance(use, Wait):
            self._hold(request, use.retry_at, now)
            return
        rejection = self._places[use.provider, use.model].take(request.input, now)
        first_byte = now + FIRST_BYTE * (0.5 + random())
        if rejection is not None:
            self._plan(first_byte, partial(self._rejected, request, use, rejection, now))
            return
        if use.reason == "probe":
            self._plan(first_byte, partial(self._report, request, use, "accepted"))
        if session.held:
            self._plan(first_byte, partial(self._follow, request))
        end = now + self._load.duration * (0.5 + random())
        self._plan(max(first_byte, end), partial(self._finished, request, use, now))

    def _finished(self, request: Request, use: Use, sent: float, now: float) -> None:
        self._places[use.provider, use.model].finish(request.output, now)
        self._report(request, use, "ok", now, usage=Usage(request.input, request.output) if self._metered else None)
        self._result.row(use.provider, sent).served += 1
        if request.waited:
            self._result.note_wait(request.came, sent)

    def _rejected(self, request: Request, use: Use, rejection: Rejection, sent: float, now: float) -> None:
        """Take a rejection in, and go on as the ledger says."""
        recorded = self._report(request, use, "error", now, rejection=rejection)
        self._count(use, rejection, recorded.verdict.until, sent, now)
        request.tries += 1
        if request.tries == TRIES:
            self._result.failed += 1
            self._end_turn(request, now)
        elif recorded.next is None:
            self._hold(request, now + PAUSE * 2.0 ** (request.tries - 1), now)
        elif isinstance(recorded.next, Wait):
            self._hold(request, recorded.next.retry_at, now)
        else:
            self._ask(request, now)

    def _hold(self, request: Request, until: float | None, now: float) -> None:
        """Let a request wait until then; where that is too long, its turn ends."""
        if until is None or until - request.came > self._load.wait:
            self._result.hour(request.came).given_up += 1
            self._end_turn(request, now)
            return
        request.waited = True
        held = request.session.held
        if not held or held[0] is not request:
            held.append(request)
        if held[0] is request:
            self._plan(until, partial(self._ask, request))

    def _end_turn(self, request: Request, now: float) -> None:
        request.session.home = None
        self._follow(request, now)

    def _follow(self, request: Request, now: float) -> None:
        """Let what waits behind a request have its turn."""
        held = request.session.held
        if held and held[0] is request:
            held.popleft()
            if held:
                self._plan(now, partial(self._ask, held[0]))

    def _report(
        self,
        request: Request,
        use: Use,
        outcome: Outcome,
        now: float,
        *,
        rejection: Rejection | None = None,
        usage: Usage | None = None,
    ) -> Recorded:
        report = Report(use.provider, use.model, outcome, use.lease, request.session.name, usage=usage)
        if rejection is not None:
            report.status, report.headers = rejection.status, rejection.headers
            report.body, report.message = rejection.body, rejection.message
        rand = self._random() if outcome == "error" else 0.0
        step = self._ledger.report(report, now, rand=rand)
        if step.notices:
            self._note(step.notices)
        if not isinstance(step.reply, Recorded):
            raise TypeError(f"a report was answered with {step.reply}")
        return step.reply

    def _count(self, use: Use, rejection: Rejection, until: float | None, sent: float, now: float) -> None:
        """Count a rejection. Each one by a limit begins a rest, unless its request was under way when another did."""
        row = self._result.row(use.provider, sent)
        if rejection.limit is None:
            row.failed += 1
            return
        account = self._places[use.provider, use.model].account
        rest = self._rests.get(account)
        probe = use.reason == "probe"
        if rest is not None and sent < rest.at and not probe:
            row.refused_in_flight += 1
            rest.in_flight += 1
            return
        row.refused_probe += probe
        row.refused += not probe
        hit = Hit(now, use.provider, stated(rejection.limit), until, "probe" if probe else "refusal")
        self._rests[account] = hit
        self._result.hits.append(hit)

    def _note(self, notices: list[Notice]) -> None:
        """Count what the ledger tells that is of interest here."""
        for notice in notices:
            match notice:
                case Notice(event="switched", provider=str(provider)):
                    self._result.row(provider, notice.at).switched_away += 1
                case Notice(event="exhausted", reason="limit", provider=str(provider)):
                    # The message: anthropic has used 50 of 50 requests per 1h, resets 13:00:00
                    limit = notice.message.partition(" of ")[2].partition(", resets ")[0]
                    self._result.hits.append(Hit(notice.at, provider, limit, notice.until, "configuration"))


def simulate(policy: Policy, load: Load, behaviours: Mapping[str, Behaviour], rng: Random) -> Result:
    """Run a load against a policy and against what its providers really do; the same `rng` gives the same result."""
    return Simulation(policy, load, behaviours, rng).run()
