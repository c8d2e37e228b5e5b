"""The aggregate: what an acquire, a report or the passing of time does to everything that is known.

Every method takes `now` and returns `Effects`; nothing has an effect outside until the outbox makes it happen.
Everything is synchronous and there are no locks: nobody can come between reading and changing.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from rlmd.core import cooldowns, usage
from rlmd.core import receipt as receipts
from rlmd.core.cooldowns import ROUTES_AWAY
from rlmd.core.leases import Leases
from rlmd.core.model import (
    DAY,
    SENSELESS,
    Effects,
    Kind,
    Notice,
    Pass,
    Policy,
    Receipt,
    Recorded,
    Refusal,
    Senseless,
    Use,
    Used,
    Verdict,
    Wait,
)
from rlmd.core.requests import ModelRef
from rlmd.core.route import Ask, Choice, as_use, as_wait, choose, in_order, refuse
from rlmd.core.session import Session, Sessions
from rlmd.core.state import Call, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from rlmd.core.lease import Lease
    from rlmd.core.receipt import Change
    from rlmd.core.requests import Acquire, Report, UsageReport
    from rlmd.core.target import Chain, Target


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
        """Models that no provider can serve now, and until when that has been announced."""
        self._awake_since = -inf
        """When the machine woke up last. A request that began before and got no answer blames no provider."""

    def configure(self, policy: Policy, now: float) -> Effects:
        """Put a policy into force and tell what is now true; leases and counts of what is still there go on."""
        call = self._call(now)
        self.state.configure(policy, call)
        self._all_limited = {model: until for model, until in self._all_limited.items() if model in self.state.chains}
        self.leases.rebind(call)
        for counter in self.state.counters.values():
            usage.judge_anew(counter, call)
        return call

    def restore(
        self, facts: Iterable[tuple[str, str, bytes]], policy: Policy, now: float
    ) -> tuple[Effects, list[Senseless]]:
        """Restore the facts that the store kept, and put the policy into force.

        Facts that make no sense are left out, and returned.
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
            usage.judge_anew(counter, call)
            usage.plan_end(counter, call)
        return call, odd

    def begin_anew(
        self, facts: Iterable[tuple[str, str, bytes]], policy: Policy, now: float
    ) -> tuple[Effects, list[Senseless]]:
        """Replace the state by other facts. Leases under way are then those of a former daemon."""
        self.state, self.sessions = State(), Sessions()
        self.leases.clear()
        self._all_limited.clear()
        return self.restore(facts, policy, now)

    def _call(self, now: float) -> Call:
        return Call(state=self.state, now=now)

    def suspended(self, now: float) -> None:
        """Note that the machine has slept until now: connections from before are dead, and no provider is to blame."""
        self._awake_since = now

    def acquire(self, request: Acquire, now: float) -> Effects:
        """Decide where a request goes; unless this only asks (`turn`, `dry_run`), reserve it under a lease.

        Nothing is reserved where the request does not go to what `lease_for` names.
        """
        self.leases.expire_due(call := self._call(now))
        asked = self.state.find(request.provider, request.model)
        if asked is None:
            call.reply = Pass(f"{request.provider}/{request.model} is not in the configuration")
            return call
        session, purpose, estimate = request.session, request.purpose, request.estimate
        known = self.sessions.get(session)
        in_turn = known is not None and purpose != "turn" and known.turn_open(now)
        new_turn = purpose == "turn" or (purpose == "step" and not in_turn)
        early = purpose == "aux" or known is None or not known.leased
        ask = self._ask(asked.provider.id, asked.model, known, now, in_turn=in_turn, early=early, estimate=estimate)
        chain = self.state.chains[asked.model]
        choice = choose(chain, self.state.policy, ask, now)
        if session is not None and not request.dry_run:
            known = self.sessions.touch(session)
            known.heard(now, new_turn=new_turn)
        if choice.target is None:
            call.reply = wait = as_wait(choice, ask, now, self.state.policy.zone)
            if not (request.dry_run or wait.patient):
                self._tell_all_limited(wait, asked, session, call)
            return call
        leased = not request.dry_run and purpose != "turn"
        if request.lease_for is not None:
            leased = leased and request.lease_for == ModelRef(choice.target.provider.id, choice.target.offer.name)
        lease = self.leases.issue(choice.target, asked.model, session, estimate, now).id if leased else None
        lost, held_back = self._why_not(asked, choice, chain, ask, now)
        call.reply = use = as_use(choice, ask, lease, lost=lost, held_back=held_back)
        if not request.dry_run:
            self._all_limited.pop(asked.model, None)
            if session is not None and known is not None:
                known.leased = known.leased or purpose != "turn"
                if purpose != "aux":
                    self._move(known, session, asked.provider.id, asked.model, use, choice.refusals, call)
        return call

    def report(self, report: Report, now: float, *, rand: float, receipt: Receipt | None = None) -> Effects:
        """Take in how a request went, once for each lease, and say where a failed one goes on.

        `receipt` is what the store remembers of a lease that is not under way here; `rand` is in [0, 1).
        """
        issued, held, receipt, target, call = self._recall(report, receipt, now)
        session = report.session or (issued.session if issued else None)
        change = receipts.change(receipt, report.outcome, under_way=held is not None)
        if change is receipts.DUPLICATE:
            verdict = receipt.verdict or OK
            place = self._next(target, issued, session, verdict, now) if report.retry else None
            call.reply = Recorded(verdict, place, duplicate=True)
            return call
        verdict = self._verdict(target.provider.id if target else report.provider, report, now)
        if verdict.kind == "unreachable" and receipt.stage == "accepted":
            verdict = Verdict("transient", verdict.scope)  # the connection broke after the answer had begun
        if target is None:
            # The provider has left the configuration: the report changes nothing but its receipt.
            verdict = Verdict(verdict.kind, "none", verdict.hint)
            receipt.stage, receipt.at, receipt.verdict = "final", now, verdict
            if report.lease is not None:
                call.receipts[report.lease] = receipt
            call.reply = Recorded(verdict)
            return call
        started = min(now, self._started(report.started_at, issued, now))
        if report.lease is not None or report.outcome != "accepted":  # without a lease only the end of a request counts
            error = verdict.kind if report.outcome == "error" else None
            self._count(target, held, receipt, change, error, call)
        if report.headers:
            from rlmd.core.errors.headers import read_windows  # noqa: PLC0415  (see _verdict)

            said = read_windows(report.headers, now)
            others = reversed(self.leases.values())
            usage.apply_windows(said, target, others, call, started=started)
        silent = report.outcome == "error" and not report.status and verdict.kind in NO_ANSWER
        slept = silent and started < self._awake_since <= now
        if report.outcome == "error" and not slept:
            verdict = self._failed(target, verdict, report, call, started=started, rand=rand, silent=silent)
            self._note_failure(target, session, verdict, now)
        elif report.outcome in {"accepted", "ok"}:
            self._passed(target, report, started, call)
        self._settle(target, held, receipt, change, report, call)
        receipt.at, receipt.verdict = now, verdict
        if report.lease is not None:
            call.receipts[report.lease] = receipt
        # A request that died while the machine slept is sent again to the same provider, which is as good as before.
        place = self._next(target, issued, session, verdict, now) if report.retry and not slept else None
        if isinstance(place, Wait) and not place.patient:
            self._tell_all_limited(place, target, session, call)
        if verdict.kind == "context" and session is not None and isinstance(place, Use):
            known = self.sessions.touch(session)
            known.failed |= {target.provider.id}
            wanted = issued.wanted if issued else target.model
            self._move(known, session, target.provider.id, wanted, place, (), call)
        call.reply = Recorded(verdict, place)
        return call

    def meter(self, report: UsageReport, now: float, *, receipt: Receipt | None = None) -> Effects:
        """Take in tokens and money that became known apart from the report; once for each lease."""
        _, held, receipt, target, call = self._recall(report, receipt, now)
        verdict = receipt.verdict or OK
        call.reply = Recorded(verdict, duplicate=receipt.metered)
        if receipt.metered or target is None:
            return call
        usage.meter(target, held, receipt, report.usage, call)
        if held and not held.in_flight:
            del self.leases[held.id]
        if report.lease is not None:
            call.receipts[report.lease] = receipt
        return call

    def release(self, leases: Iterable[str], now: float) -> Effects:
        """Expire leases whose connection has closed: their outcome stays unknown, and the request counts as used."""
        call = self._call(now)
        for name in leases:
            if name in self.leases:
                self.leases.expire(self.leases[name], call)
        return call

    def next_deadline(self) -> float | None:
        """Return when `roll` has something to do; None: nothing is pending."""
        planned, lapse = self.state.planned(), self.leases.lapses_at()
        if planned is None or lapse is None:
            return planned if lapse is None else lapse
        return min(planned, lapse)

    def roll(self, now: float) -> Effects:
        """Announce the cooldowns, windows and leases that have ended. No decision waits for this."""
        self.leases.expire_due(call := self._call(now))
        for at, key in self.state.due(now):
            if key in self.state.breakers:
                cooldowns.announce_end(key, at, call)
            elif key in self.state.counters:
                usage.announce_end(self.state.counters[key], call)
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
        """Gather what a decision depends on; `failed` counts only where no turn is open."""
        sticky = own = None
        if known is not None:
            own = known.provider
            sticky = known.sticky(self.state.policy.failback, now, in_turn=in_turn)
            if in_turn:
                failed = known.failed
        return Ask(provider, model, self.pin_for(model), sticky, own, failed, estimate, early, beyond)

    def _started(self, said: datetime | None, issued: Lease | None, now: float) -> float:
        """Return when a request began. The agent's word is not believed where its clock is off by days."""
        if said is not None and now - said.timestamp() < PLAUSIBLE:
            return said.timestamp()
        return issued.at if issued else now

    def _recall(
        self, said: Report | UsageReport, receipt: Receipt | None, now: float
    ) -> tuple[Lease | None, Lease | None, Receipt, Target | None, Call]:
        """Begin a call about a lease: the lease as it was issued, the lease if it still holds, receipt and target.

        Where nobody remembers the target, it is the one that the agent names.
        """
        issued = self.leases.get(said.lease) if said.lease is not None else None
        self.leases.expire_due(call := self._call(now))
        if issued is not None:
            return issued, self.leases.get(issued.id), issued.receipt, issued.target, call
        receipt = receipt or Receipt("reserved", now)
        if receipt.place is None:
            target = self.state.find(said.provider or "", said.model or "")
        else:
            target = self.state.targets.get(receipt.place[0], {}).get(receipt.place[1])
        return None, None, receipt, target, call

    def _why_not(
        self, asked: Target, choice: Choice, chain: Chain, ask: Ask, now: float
    ) -> tuple[Refusal | None, bool]:
        """Say why a session that stays with its provider does not get the target asked for, or the first one."""
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
        """Note the provider that a session uses now, and announce a switch."""
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

    def _verdict(self, provider: str, report: Report, now: float) -> Verdict:
        if report.outcome == "error":
            from rlmd.core.errors.classify import classify  # noqa: PLC0415  (its patterns would be a tenth of the start)

            cooldown = self.state.policy.cooldown
            verdict = classify(
                provider,
                report.status,
                report.headers,
                report.body,
                report.message,
                now,
                patterns=cooldown.patterns,
                longest=cooldown.longest,
            )
            # The agent saw an error that the answer does not show: a broken stream, say.
            return Verdict("transient", "server") if verdict.kind == "ok" else verdict
        return CANCELLED if report.outcome in {"cancelled", "unsent"} else OK

    def _passed(self, target: Target, report: Report, started: float, call: Call) -> None:
        """Take in a good answer."""
        cooldowns.heard(target, call)
        if report.outcome == "ok":
            cooldowns.sample(target, started, call.now)
        cooldowns.passed(target, report.lease, started, call)
        call.keep_current(target.provider.id)

    def _failed(
        self,
        target: Target,
        verdict: Verdict,
        report: Report,
        call: Call,
        *,
        started: float,
        rand: float,
        silent: bool,
    ) -> Verdict:
        """Take in a failure; return the verdict with the end of the cooldown that it leads to."""
        if not silent:
            cooldowns.heard(target, call)
        return cooldowns.failed(target, verdict, report, call, started=started, rand=rand, silent=silent)

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
            usage.settle_request(held, call, counts=change.requests > 0)
        elif change.requests > 0:
            usage.count_request(target, receipt, call)
        elif change.requests < 0:
            usage.give_back(receipt, target, call)
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
        report: Report,
        call: Call,
    ) -> None:
        """Move a lease on; a final report ends it, unless the tokens it reserved are still to be metered."""
        was = receipt.stage
        receipt.stage = change.after
        if report.usage is not None and not receipt.metered:
            usage.meter(target, held, receipt, report.usage, call)
        if held is None or report.outcome == "accepted":
            return
        held.finish()
        if report.outcome == "unsent" or (report.outcome == "error" and was == "reserved"):
            usage.settle_tokens(held, call, keep=False)
        if not held.slots:
            del self.leases[held.id]

    def _note_failure(self, target: Target, name: str | None, verdict: Verdict, now: float) -> None:
        """Keep the session from coming back to the target in this turn, unless one short wait may be enough."""
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
