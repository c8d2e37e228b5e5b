"""A ledger on a clock that the test holds, told in one line a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from rlmd.core.ledger import Ledger
from rlmd.core.model import (
    Effects,
    Limit,
    Notice,
    Outcome,
    Policy,
    Provider,
    ProviderModel,
    Receipt,
    Recorded,
    Usage,
    Use,
    Used,
    Verdict,
    Wait,
)
from rlmd.core.requests import Acquire, ModelRef, Report, UsageReport

NOON = 1_768_219_200.0
"""2026-01-12 12:00:00 UTC, a Monday: the start of an hour."""
MODEL = "sonnet"


def limit(maximum: float, per: str = "1h", of: Any = "requests", **more: Any) -> Limit:
    window = "calendar" if per in {"1h", "1d", "1w", "month"} else "rolling"
    return Limit(of, maximum, per, **{"window": window, "zone": UTC, **more})


def provider(
    name: str,
    priority: int = 1,
    *limits: Limit,
    models: tuple[str, ...] = (MODEL,),
    context: int | None = None,
    **more: Any,
) -> Provider:
    offers = {model: ProviderModel(model, context) for model in models}
    return Provider(name, priority, **{"models": offers, "account": name, "limits": limits, **more})


class Story:
    """One daemon's ledger. It forgets nothing that its store would keep."""

    def __init__(self, *providers: Provider, now: float = NOON, boot: str = "b", **policy: Any) -> None:
        self.now = now
        self.policy = Policy(providers=providers, **{"patience": 0.0, "zone": UTC, **policy})
        self.ledger = Ledger(boot)
        self.facts: dict[tuple[str, str], bytes] = {}
        self.notices: list[Notice] = []
        self.history: list[Used] = []
        self.settle(self.ledger.configure(self.policy, now))

    def settle(self, step: Effects) -> Any:
        """Keep what a step changed as the store would, and return its reply."""
        for name, read in step.facts.items():
            row = read()
            if row is None:
                self.facts.pop(name, None)
            else:
                self.facts[name] = msgspec.json.encode(row)
        for lease, receipt in step.receipts.items():
            self.facts["receipt", lease] = msgspec.json.encode(receipt)
        self.notices += step.notices
        self.history += step.usage
        return step.reply

    def ask(self, asked: str = "a", session: str | None = "s", **more: Any) -> Any:
        model = more.pop("model", MODEL)
        if "lease_for" in more:
            more["lease_for"] = ModelRef(*more["lease_for"])
        return self.settle(self.ledger.acquire(Acquire(asked, model, session=session, **more), self.now))

    def use(self, asked: str = "a", session: str | None = "s", **more: Any) -> Use:
        decision = self.ask(asked, session, **more)
        assert isinstance(decision, Use), decision
        return decision

    def wait(self, asked: str = "a", session: str | None = "s", **more: Any) -> Wait:
        decision = self.ask(asked, session, **more)
        assert isinstance(decision, Wait), decision
        return decision

    def report(self, use: Use | str, outcome: Outcome = "ok", **more: Any) -> Recorded:
        name, lease = (use, None) if isinstance(use, str) else (use.provider, use.lease)
        model = more.pop("model", MODEL if isinstance(use, str) else use.model)
        lease = more.pop("lease", lease)
        rand = more.pop("rand", 0.0)
        if "started_at" in more:
            more["started_at"] = datetime.fromtimestamp(more["started_at"], UTC)
        kept = self.facts.get(("receipt", lease or ""))
        recorded = self.settle(
            self.ledger.report(
                Report(name, model, outcome, lease=lease, **more),
                self.now,
                rand=rand,
                receipt=msgspec.json.decode(kept, type=Receipt) if kept else None,
            )
        )
        assert isinstance(recorded, Recorded)
        return recorded

    def refuse(self, use: Use | str, after: float | None = None, **more: Any) -> Recorded:
        """The provider answers 429, with a wait in seconds or without."""
        headers = {} if after is None else {"retry-after": str(after)}
        return self.report(use, "error", **{"status": 429, "headers": headers, **more})

    def meter(self, lease: str | None, **more: Any) -> Recorded:
        kept = self.facts.get(("receipt", lease or ""))
        receipt = msgspec.json.decode(kept, type=Receipt) if kept else None
        recorded = self.settle(self.ledger.meter(UsageReport(Usage(**more), lease), self.now, receipt=receipt))
        assert isinstance(recorded, Recorded)
        return recorded

    def used(self, name: str, n: int = 0) -> float:
        """What the n-th limit of a provider has counted."""
        target = next(iter(self.ledger.state.targets[name].values()))
        return target.counters[n].window.used(self.now)

    def reserved(self, name: str, n: int = 0) -> float:
        target = next(iter(self.ledger.state.targets[name].values()))
        return target.counters[n].window.reserved(self.now)

    def restart(self, *, boot: str = "b2") -> None:
        """Die without a word and come back with what the store kept."""
        self.ledger = Ledger(boot)
        stored = ((kind, key, row) for (kind, key), row in self.facts.items() if kind != "receipt")
        step, odd = self.ledger.restore(stored, self.policy, self.now)
        assert odd == []
        self.settle(step)

    def reload(self, policy: Policy) -> None:
        """Put another policy into force."""
        self.settle(self.ledger.configure(policy, self.now))

    def told(self, event: str) -> list[str]:
        return [n.message for n in self.notices if n.event == event]


def throttled(until: float, hint: float | None = None) -> Verdict:
    return Verdict("throttle", "model", hint, until)
