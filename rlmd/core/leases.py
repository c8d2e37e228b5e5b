"""Requests under way: what is reserved for each, and how it ends where nobody says how it went."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from rlmd.core import usage
from rlmd.core.lease import Lease
from rlmd.core.model import Receipt

if TYPE_CHECKING:
    from rlmd.core.state import Call
    from rlmd.core.target import Target

LEASE = 900.0
"""Seconds after which a lease that nobody reported is let go (the contract's 15 minutes)."""
LAPSED = 1000
"""Leases let go at a time: of those whose time is up at once, the others are let go by the calls that follow."""


class Leases(OrderedDict[str, Lease]):
    """All leases by their names, in the order in which they end by themselves.

    `boot` is any string that no other run of the daemon has used: it makes names unique across restarts.
    """

    def __init__(self, boot: str) -> None:
        super().__init__()
        self._boot = boot
        self._issued = 0
        self._now = 0.0
        self._lapse_at = 0.0
        """No lease is let go before this time unless the clock steps back."""

    def issue(self, target: Target, wanted: str, session: str | None, estimate: int | None, now: float) -> Lease:
        """Reserve what a request will use, and let it be the probe of what rests there."""
        self._issued += 1
        receipt = Receipt("reserved", now, place=(target.provider.id, target.model))
        lease = Lease(f"{self._boot}-{self._issued}", target, wanted, session, now, estimate, receipt)
        usage.reserve(lease, now)
        for _, breaker in target.breakers:
            if breaker.opened:
                breaker.admit(lease.id, now)
        target.totals.in_flight += 1
        self[lease.id] = lease
        return lease

    def lapses_at(self) -> float | None:
        """Tell when the first lease will be let go; None where there is none."""
        first = next(iter(self.values()), None)
        return None if first is None else first.at + LEASE

    def lapse(self, call: Call) -> None:
        """Let go of leases whose time is up."""
        now = call.now
        if self._now <= now < self._lapse_at:
            self._now = now
            return
        if now < self._now:  # The clock was ahead: a lease of then lives no longer than one of now.
            for lease in self.values():
                lease.at = min(lease.at, now)
        self._now = now
        for lease in list(islice(self.values(), LAPSED)):
            if lease.at + LEASE > now:
                break
            self.let_go(lease, call)
        at = self.lapses_at()
        self._lapse_at = now + LEASE if at is None else at

    def let_go(self, held: Lease, call: Call) -> None:
        """Count what stays unknown as used: a provider that took the request has counted it, too."""
        del self[held.id]
        if held.in_flight:
            held.land()
        if held.receipt.stage == "reserved":
            usage.settle_request(held, call, counts=True)
            held.target.totals.requests += 1
            held.target.recent.note(call.now, held.target.key)
            call.note_use(held.target, "requests")
            held.receipt.stage, held.receipt.at = "lapsed", call.now
            call.keep_totals(held.target.provider.id)
        usage.settle_tokens(held, call, keep=True)
        call.receipts[held.id] = held.receipt

    def follow(self, call: Call) -> None:
        """Let leases of what is still configured belong to that, and count in its new limits too."""
        for lease in self.values():
            was = lease.target
            same = call.state.targets.get(was.provider.id, {}).get(was.model)
            if same is not None and same.provider.account == was.provider.account:
                lease.target = same
                if lease.receipt.stage == "reserved":
                    usage.reserve_in_new_limits(lease, call.now)
