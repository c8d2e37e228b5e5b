"""Leases of the requests under way: how they are issued, and how they expire where nobody reports the request."""

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
"""Seconds after which a lease that nobody reported expires (the contract's 15 minutes)."""
LAPSED = 1000
"""Leases expired per call; the rest expire on the next calls, so that no call is slow."""


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
        """No lease expires before this time unless the clock steps back."""

    def issue(self, target: Target, wanted: str, session: str | None, estimate: int | None, now: float) -> Lease:
        """Reserve what a request will use. The request is the probe of every open breaker of its target."""
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
        """Return when the first lease expires; None if there is no lease."""
        first = next(iter(self.values()), None)
        return None if first is None else first.at + LEASE

    def expire_due(self, call: Call) -> None:
        """Expire the leases whose time is up."""
        now = call.now
        if self._now <= now < self._lapse_at:
            self._now = now
            return
        if now < self._now:  # The clock was ahead: an older lease lives no longer than a lease of now.
            for lease in self.values():
                lease.at = min(lease.at, now)
        self._now = now
        for lease in list(islice(self.values(), LAPSED)):
            if lease.at + LEASE > now:
                break
            self.expire(lease, call)
        at = self.lapses_at()
        self._lapse_at = now + LEASE if at is None else at

    def expire(self, held: Lease, call: Call) -> None:
        """End a lease that nobody reported. Its request counts as used: a provider that took it has counted it, too."""
        del self[held.id]
        if held.in_flight:
            held.finish()
        if held.receipt.stage == "reserved":
            usage.settle_request(held, call, counts=True)
            held.target.totals.requests += 1
            held.target.recent.note(call.now, held.target.key)
            call.note_use(held.target, "requests")
            held.receipt.stage, held.receipt.at = "lapsed", call.now
            call.keep_totals(held.target.provider.id)
        usage.settle_tokens(held, call, keep=True)
        call.receipts[held.id] = held.receipt

    def rebind(self, call: Call) -> None:
        """Bind the leases to the targets of a new configuration, and reserve in the limits that are new."""
        for lease in self.values():
            was = lease.target
            same = call.state.targets.get(was.provider.id, {}).get(was.model)
            if same is not None and same.provider.account == was.provider.account:
                lease.target = same
                if lease.receipt.stage == "reserved":
                    usage.reserve_in_new_limits(lease, call.now)
