"""One request under way: what is reserved for it, and what is remembered of it."""

from __future__ import annotations

from msgspec import Struct

from rlmd.core.model import Receipt
from rlmd.core.snapshot import Snapshot
from rlmd.core.target import Counter, Target


class Lease(Struct):
    """One request under way: what is reserved for it, and what is to be remembered of it."""

    id: str
    target: Target
    wanted: str
    """The canonical model that was asked for; its fallbacks may serve it."""
    session: str | None
    at: float
    estimate: int | None
    receipt: Receipt
    slots: list[tuple[Counter, float, float]] = []
    """Counter, slot in its window, amount reserved."""
    noted: dict[str, tuple[Snapshot, float]] = {}
    """What the provider says of its own windows, by its name of them, and what was taken off that for this request."""

    @property
    def in_flight(self) -> bool:
        """Whether its final report is still to come; after it a lease may wait for its usage."""
        return self.receipt.stage in {"reserved", "accepted"}

    def land(self) -> None:
        """Note that the request is over; what it was the probe of may be tried by the next one."""
        self.target.totals.in_flight -= 1
        for _, breaker in self.target.breakers:
            if breaker.opened:
                breaker.release(self.id)
