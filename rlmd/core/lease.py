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
    """Snapshot and the amount that this request has taken off it, by the provider's name of the window."""

    @property
    def in_flight(self) -> bool:
        """True until the final report. After that report a lease may still wait for its usage."""
        return self.receipt.stage in {"reserved", "accepted"}

    def finish(self) -> None:
        """Note that the request is over: it is no longer the probe of any breaker."""
        self.target.totals.in_flight -= 1
        for _, breaker in self.target.breakers:
            if breaker.opened:
                breaker.release(self.id)
