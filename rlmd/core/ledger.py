"""The aggregate: what an acquire, a report or the passing of time does to everything that is known.

Every method takes `now` and returns a `Effects`; nothing has an effect outside until the outbox makes it happen.
Everything is synchronous and there are no locks: nobody can come between reading and changing.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from rlmd.core import cooldowns
from rlmd.core import receipt as receipts
from rlmd.core import usage as counting
from rlmd.core.cooldowns import ROUTES_AWAY
from rlmd.core.leases import Leases
from rlmd.core.model import (
    DAY,
    SENSELESS,
    Effects,
    Kind,
    Notice,
    Outcome,
    Pass,
    Policy,
    Purpose,
    Receipt,
    Recorded,
    Refusal,
    Senseless,
    Usage,
    Use,
    Used,
    Verdict,
    Wait,
)
from rlmd.core.route import Ask, Choice, as_use, as_wait, choose, in_order, refuse
from rlmd.core.session import Session, Sessions
from rlmd.core.state import Call, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rlmd.core.lease import Lease
    from rlmd.core.receipt import Change
    from rlmd.core.target import Chain, Target


class Answer(Struct, frozen=True):
    """What the agent saw of an answer: enough to tell what it means, never a prompt or a key."""

    status: int | None = None
    headers: dict[str, str] = {}
    body: str = ""
    message: str = ""


NOTHING_SEEN = Answer()
OK = Verdict("ok")
CANCELLED = Verdict("cancelled")

NO_ANSWER: frozenset[Kind] = frozenset({"unreachable", "transient"})
"""Kinds that, without a status, say that nothing answered."""
PLAUSIBLE = DAY
"""Seconds for which a request may have been under way."""


class Ledger:
    """All decisions go through here, and all they depend on is kept here.

    `boot` is any string that no other run of the daemon has used: it makes leases unique across restarts.
    """

    def __init__(self, boot: str) -> None:
        self.state = State()
        self.leases = Leases(boot)
        self.sessions = Sessions()
        self._all_limited: dict[str, float] = {}
        """Models that nobody serves, and until when that has been told."""
        self._awake_since = -inf
        """When the machine woke up last: what was under way before says nothing of who did not answer."""

    def configure(self, policy: Policy, now: float) -> Effects:
        """Put a policy into force and tell what is now true; leases and counts of what is still there go on."""
        call = self._call(now)
        self.state.configure(policy, call)
        self._all_limited = {model: until for model, until in self._all_limited.items() if model in self.state.chains}
        self.leases.follow(call)
        for counter in self.state.counters.values():
            counting.judge_anew(counter, call)
        return call

    def restore(
        self, facts: Iterable[tuple[str, str, bytes]], policy: Policy, now: float
    ) -> tuple[Effects, list[Senseless]]:
        """Take in what the store kept, and the policy; tell what that changes.

        The facts that make no sense are passed over, and returned.
        """
        odd = []
        for kind, key, row in facts:
            try:
                self.state.restore([(kind, key, row)], now, policy.cooldown.longest)
            except SENSELESS as error:
                odd.append(Senseless("fact", (kind, key), row, error))
        call = self._call(now)
        self.state.configure(policy, call)
        for key, breaker in self.state.breakers.items():
            if breaker.opened:
                self.state.plan(breaker.until, key)
        for counter in self.state.counters.values():
            counting.judge_anew(counter, call)
            counting.plan_end(counter, call)
        return call, odd

    def begin_anew(
        self, facts: Iterable[tuple[str, str, bytes]], policy: Policy, now: float
    ) -> tuple[Effects, list[Senseless]]:
        """Forget everything and go on from other facts. Leases under way are then those of a former daemon."""
        self.state, self.sessions = State(), Sessions()
        self.leases.clear()
        self._all_limited.clear()
        return self.restore(facts, policy, now)

    def _call(self, now: float) -> Call:
        return Call(state=self.state, now=now)

    def suspended(self, now: float) -> None:
        """Take in that the machine has slept until now: connections of before have died with nobody to blame."""
        self._awake_since = now

    def acquire(
        self,
        provider: str,
        model: str,
        now: float,
        *,
        session: str | None = None,
        purpose: Purpose = "step",
        dry_run: bool = False,
        estimate: int | None = None,
        lease_for: tuple[str, str] | None = None,
    ) -> Effects:
        """Decide where a request goes; unless this only asks (`turn`, `dry_run`), reserve it under a lease.

        `provider` and `model` are the agent's own names of what it would use; `estimate` is in tokens. Nothing is
        reserved where `lease_for`, the provider and the model that it stands ready for, is not where it goes.
        """
        self.leases.lapse(call := self._call(now))
        asked = self.state.find(provider, model)
        if asked is None:
            call.reply = Pass(f"{provider}/{model} is not in the configuration")
            return call
        known = self.sessions.get(session)
        in_turn = known is not None and purpose != "turn" and known.turn_open(now)
        new_turn = purpose == "turn" or (purpose == "step" and not in_turn)
        early = purpose == "aux" or known is None or not known.leased
        ask = self._ask(asked.provider.id, asked.model, known, now, in_turn=in_turn, early=early, estimate=estimate)
        chain = self.state.chains[asked.model]
        choice = choose(chain, self.state.policy, ask, now)
        if session is not None and not dry_run:
            known = self.sessions.touch(session)
            known.heard(now, new_turn=new_turn)
        if choice.target is None:
            call.reply = wait = as_wait(choice, ask, now, self.state.policy.zone)
            if not (dry_run or wait.patient):
                self._tell_all_limited(wait, asked, session, call)
            return call
        leased = not dry_run and purpose != "turn"
        if lease_for is not None:
            leased = leased and lease_for == (choice.target.provider.id, choice.target.offer.name)
        lease = self.leases.issue(choice.target, asked.model, session, estimate, now).id if leased else None
        lost, held_back = self._why_not(asked, choice, chain, ask, now)
        call.reply = use = as_use(choice, ask, lease, lost=lost, held_back=held_back)
        if not dry_run:
            self._all_limited.pop(asked.model, None)
            if session is not None and known is not None:
                known.leased = known.leased or purpose != "turn"
                if purpose != "aux":
                    self._move(known, session, asked.provider.id, asked.model, use, choice.refusals, call)
        return call

    def report(
        self,
        provider: str,
        model: str,
        outcome: Outcome,
        now: float,
        *,
        rand: float,
        answer: Answer = NOTHING_SEEN,
        lease: str | None = None,
        session: str | None = None,
        started_at: float | None = None,
        usage: Usage | None = None,
        retry: bool = True,
        receipt: Receipt | None = None,
    ) -> Effects:
        """Take in how a request went, once for each lease, and say where a failed one goes on.

        `receipt` is what the store remembers of a lease that is not under way here; `rand` is in [0, 1).
        """
        issued = self.leases.get(lease) if lease is not None else None
        self.leases.lapse(call := self._call(now))
        held = issued if issued is not None and issued.id in self.leases else None
        receipt = issued.receipt if issued else receipt or Receipt("reserved", now)
        target = issued.target if issued else self._target(receipt, provider, model)
        session = session or (issued.session if issued else None)
        change = receipts.change(receipt, outcome, under_way=held is not None)
        if change is receipts.DUPLICATE:
            verdict = receipt.verdict or OK
            place = self._next(target, issued, session, verdict, now) if retry else None
            call.reply = Recorded(verdict, place, duplicate=True)
            return call
        verdict = self._verdict(target.provider.id if target else provider, outcome, answer, now)
        if verdict.kind == "unreachable" and receipt.stage == "accepted":
            verdict = Verdict("transient", verdict.scope)  # the connection broke after the answer had begun
        if target is None:
            # Its provider has left the configuration; what is said of it still is said once.
            verdict = Verdict(verdict.kind, "none", verdict.hint)
            receipt.stage, receipt.at, receipt.verdict = "final", now, verdict
            if lease is not None:
                call.receipts[lease] = receipt
            call.reply = Recorded(verdict)
            return call
        started = min(now, self._started(started_at, issued, now))
        if lease is not None or outcome != "accepted":  # without a lease only the end of a request counts
            error = verdict.kind if outcome == "error" else None
            self._count(target, held, receipt, change, error, call)
        if answer.headers:
            from rlmd.core.errors.headers import observe  # noqa: PLC0415  (see _verdict)

            said = observe(answer.headers, now)
            others = reversed(self.leases.values())
            counting.observe(said, target, others, call, started=started)
        silent = outcome == "error" and not answer.status and verdict.kind in NO_ANSWER
        slept = silent and started < self._awake_since <= now
        if outcome == "error" and not slept:
            verdict = self._failed(target, verdict, answer, lease, started, rand, call, silent=silent)
            self._note_failure(target, session, verdict, now)
        elif outcome in {"accepted", "ok"}:
            self._passed(target, outcome, lease, started, call)
        self._settle(target, held, receipt, change, outcome, usage, call)
        receipt.at, receipt.verdict = now, verdict
        if lease is not None:
            call.receipts[lease] = receipt
        # What died while the machine slept is sent again to the same place: that is as good as before.
        place = self._next(target, issued, session, verdict, now) if retry and not slept else None
        if isinstance(place, Wait) and not place.patient:
            self._tell_all_limited(place, target, session, call)
        if verdict.kind == "context" and session is not None and isinstance(place, Use):
            known = self.sessions.touch(session)
            known.failed |= {target.provider.id}
            wanted = issued.wanted if issued else target.model
            self._move(known, session, target.provider.id, wanted, place, (), call)
        call.reply = Recorded(verdict, place)
        return call

    def meter(
        self,
        usage: Usage,
        now: float,
        *,
        lease: str | None = None,
        provider: str = "",
        model: str = "",
        receipt: Receipt | None = None,
    ) -> Effects:
        """Take in tokens and money that became known apart from the report; once for each lease."""
        issued = self.leases.get(lease) if lease is not None else None
        self.leases.lapse(call := self._call(now))
        held = issued if issued is not None and issued.id in self.leases else None
        receipt = issued.receipt if issued else receipt or Receipt("reserved", now)
        target = issued.target if issued else self._target(receipt, provider, model)
        verdict = receipt.verdict or OK
        call.reply = Recorded(verdict, duplicate=receipt.metered)
        if receipt.metered or target is None:
            return call
        counting.meter(target, held, receipt, usage, call)
        if held and not held.in_flight:
            del self.leases[held.id]
        if lease is not None:
            call.receipts[lease] = receipt
        return call

    def release(self, leases: Iterable[str], now: float) -> Effects:
        """Let go of leases whose connection has closed: their outcome stays unknown, which counts as used."""
        call = self._call(now)
        for name in leases:
            if name in self.leases:
                self.leases.let_go(self.leases[name], call)
        return call

    def next_deadline(self) -> float | None:
        """Tell when `roll` will have something to do; None: nothing is pending."""
        planned, lapse = self.state.planned(), self.leases.lapses_at()
        if planned is None or lapse is None:
            return planned if lapse is None else lapse
        return min(planned, lapse)

    def roll(self, now: float) -> Effects:
        """Announce what has ended: cooldowns, windows, leases. It decides nothing; reading the time does."""
        self.leases.lapse(call := self._call(now))
        for at, key in self.state.due(now):
            if key in self.state.breakers:
                cooldowns.announce_end(key, at, call)
            elif key in self.state.counters:
                counting.announce_end(self.state.counters[key], call)
        return call

    def explain(self, model: str, session: str | None, now: float) -> tuple[Ask, Sequence[Target], Choice] | None:
        """Show how the next request for a canonical model is decided: all candidates in order, the choice.

        None where nobody serves the model.
        """
        chain = self.state.chains.get(model)
        if chain is None:
            return None
        known = self.sessions.get(session)
        in_turn = known is not None and known.turn_open(now)
        first = in_order(chain, self.state.policy, Ask("", model, pin=self.pin_for(model)), now)[0]
        early = known is None or not known.leased
        ask = self._ask(first.provider.id, first.model, known, now, in_turn=in_turn, early=early)
        return ask, in_order(chain, self.state.policy, ask, now), choose(chain, self.state.policy, ask, now)

    def pin_for(self, model: str) -> str | None:
        """Name the provider that the person put first for a canonical model."""
        return self.state.pins.get(model) or self.state.pins.get("*")

    def _ask(
        self,
        provider: str,
        model: str,
        known: Session | None,
        now: float,
        *,
        in_turn: bool,
        early: bool = False,
        estimate: int | None = None,
        beyond: int | None = None,
        failed: Collection[str] = (),
    ) -> Ask:
        """Gather what a decision depends on; `failed` holds where no turn is open that would know better."""
        sticky = own = None
        if known is not None:
            own = known.provider
            sticky = known.sticky(self.state.policy.failback, now, in_turn=in_turn)
            if in_turn:
                failed = known.failed
        return Ask(provider, model, self.pin_for(model), sticky, own, failed, estimate, early, beyond)

    def _started(self, said: float | None, issued: Lease | None, now: float) -> float:
        """When a request began; an agent whose clock is off by days does not know."""
        if said is not None and now - said < PLAUSIBLE:
            return said
        return issued.at if issued else now

    def _target(self, receipt: Receipt, provider: str, model: str) -> Target | None:
        """Find what a lease that is over was for; what the agent calls so where nobody remembers."""
        if receipt.place is None:
            return self.state.find(provider, model)
        return self.state.targets.get(receipt.place[0], {}).get(receipt.place[1])

    def _why_not(
        self, asked: Target, choice: Choice, chain: Chain, ask: Ask, now: float
    ) -> tuple[Refusal | None, bool]:
        """Say why a session that stays with its provider does not get what was asked for, or the best one."""
        if choice.target is None or choice.target.provider.id != ask.sticky or choice.target is chain.targets[0]:
            return None, False
        if choice.target is not asked:
            lost = refuse(asked, ask, now, self.state.policy.zone)
            return lost, lost is None
        free = Ask(ask.provider, ask.model, pin=ask.pin, estimate=ask.estimate)
        return None, in_order(chain, self.state.policy, free, now)[0] is not asked

    def _move(
        self,
        session: Session,
        name: str,
        asked: str,
        model: str,
        use: Use,
        refusals: Sequence[Refusal],
        call: Call,
    ) -> None:
        """Remember where a session goes that asked for a model at a provider, and tell when that is news."""
        before = session.provider or asked
        session.provider = use.provider
        if use.provider != before and all(t.provider.id != before for t in self.state.chains[model].targets):
            before = asked  # the person has chosen another model, which the former provider does not have
        if use.provider != before:
            call.usage.append(Used(call.now, before, model, "switches", 1))
            notice = Notice(
                "switched",
                call.now,
                f"back on {use.provider}" if use.reason == "preferred" else use.message,
                provider=before,
                to=use.provider,
                model=model,
                session=name,
                reason=use.reason,
                until=next((r.until for r in refusals if r.provider == before), None),
            )
            call.tell(notice)

    def _tell_all_limited(self, wait: Wait, asked: Target, session: str | None, call: Call) -> None:
        if self._all_limited.get(asked.model, 0.0) <= call.now:
            until = wait.retry_at
            self._all_limited[asked.model] = until or inf
            call.tell(Notice("all_limited", call.now, wait.message, model=asked.model, session=session, until=until))

    def _verdict(self, provider: str, outcome: Outcome, answer: Answer, now: float) -> Verdict:
        if outcome == "error":
            from rlmd.core.errors.classify import classify  # noqa: PLC0415  (its patterns would be a tenth of the start)

            cooldown = self.state.policy.cooldown
            verdict = classify(
                provider,
                answer.status,
                answer.headers,
                answer.body,
                answer.message,
                now,
                patterns=cooldown.patterns,
                longest=cooldown.longest,
            )
            # The agent saw an error that the answer does not show: a broken stream, say.
            return Verdict("transient", "server") if verdict.kind == "ok" else verdict
        return CANCELLED if outcome in {"cancelled", "unsent"} else OK

    def _passed(self, target: Target, outcome: Outcome, lease: str | None, started: float, call: Call) -> None:
        """Take in a good answer."""
        cooldowns.heard(target, call)
        if outcome == "ok":
            cooldowns.sample(target, started, call.now)
        cooldowns.passed(target, lease, started, call)
        call.keep_current(target.provider.id)

    def _failed(
        self,
        target: Target,
        verdict: Verdict,
        answer: Answer,
        lease: str | None,
        started: float,
        rand: float,
        call: Call,
        *,
        silent: bool,
    ) -> Verdict:
        """Take in a failure; return the verdict with the end of the rest that it leads to."""
        if not silent:
            cooldowns.heard(target, call)
        return cooldowns.failed(
            target,
            verdict,
            call,
            lease=lease,
            started=started,
            rand=rand,
            silent=silent,
            said=partial(_sentence, answer),
        )

    def _count(
        self,
        target: Target,
        held: Lease | None,
        receipt: Receipt,
        change: Change,
        error: Kind | None,
        call: Call,
    ) -> None:
        """Count the request, or give it back, as the table of receipts says."""
        if error is not None:
            target.totals.errors += 1
            call.note_use(target, error)
        if held is not None and receipt.stage == "reserved":
            counting.settle_request(held, call, counts=change.requests > 0)
        elif change.requests > 0:
            counting.count_request(target, receipt, call)
        elif change.requests < 0:
            counting.give_back(receipt, target, call)
        if change.requests:
            # A request is given back where it was counted: off that time's history, never off what a reset left.
            at = call.now if change.requests > 0 else receipt.at
            call.note_use(target, "requests", change.requests, at)
            target.totals.requests = max(0, target.totals.requests + change.requests)
        if change.requests > 0:
            target.recent.note(call.now, target.key)
        call.keep_totals(target.provider.id)

    def _settle(
        self,
        target: Target,
        held: Lease | None,
        receipt: Receipt,
        change: Change,
        outcome: Outcome,
        usage: Usage | None,
        call: Call,
    ) -> None:
        """Move a lease on; a final report ends it, unless the tokens it reserved are still to be metered."""
        was = receipt.stage
        receipt.stage = change.after
        if usage is not None and not receipt.metered:
            counting.meter(target, held, receipt, usage, call)
        if held is None or outcome == "accepted":
            return
        held.land()
        if outcome == "unsent" or (outcome == "error" and was == "reserved"):
            counting.settle_tokens(held, call, keep=False)
        if not held.slots:
            del self.leases[held.id]

    def _note_failure(self, target: Target, name: str | None, verdict: Verdict, now: float) -> None:
        """Keep the session from coming back to it in this turn, unless it is worth one short wait."""
        if name is None or verdict.kind not in ROUTES_AWAY or verdict.kind == "context":
            return
        session = self.sessions.touch(name)
        provider = target.provider.id
        soon = verdict.until is not None and verdict.until - now <= self.state.policy.patience
        if soon and provider not in session.waited:
            session.waited |= {provider}
        else:
            session.failed |= {provider}

    def _next(
        self, target: Target | None, issued: Lease | None, session: str | None, verdict: Verdict, now: float
    ) -> Use | Wait | None:
        """Decide where a failed request goes on; None where moving it would not help."""
        if target is None or verdict.kind not in ROUTES_AWAY:
            return None
        beyond = target.offer.context if verdict.kind == "context" else None
        if verdict.kind == "context" and beyond is None:
            return None
        wanted = issued.wanted if issued else target.model
        chain = self.state.chains.get(wanted)
        if chain is None:
            return None
        name = target.provider.id
        known = self.sessions.get(session)
        ask = self._ask(
            name,
            wanted,
            known,
            now,
            in_turn=known is not None and known.turn_open(now),
            estimate=issued.estimate if issued else None,
            beyond=beyond,
            failed=() if verdict.until is not None else {name},
        )
        choice = choose(chain, self.state.policy, ask, now)
        if choice.target is None:
            # A request that is too long gets shorter in the agent, not by waiting.
            return None if verdict.kind == "context" else as_wait(choice, ask, now, self.state.policy.zone)
        # By name: a reload may have made another object of the same place.
        return None if choice.target.key == target.key else as_use(choice, ask, None)


def _sentence(answer: Answer) -> str:
    from rlmd.core.errors.failure import sentence  # noqa: PLC0415  (see _verdict)

    return sentence(answer.status, answer.headers, answer.body, answer.message)
