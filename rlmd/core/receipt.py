"""What a report does to the count of its request: the table by which every lease counts once, whatever is said of it.

A row is the stage of the lease, a column the outcome that is reported; a cell says what the report adds to the
requests that are counted, and the stage after it. `DUPLICATE`: this has been said before, nothing changes.

- `reserved`: the lease is under way here, its request is reserved and not yet counted.
- `accepted`: the first good byte came, which counted the request.
- `lapsed`: nobody said how the request went, which counted it.
- `final`: the end has been reported.
- `unknown`: nothing is remembered of the lease, because a former daemon issued it or there was none.

`unsent` says that the request never left the agent: nothing of it counts, also where it had been accepted by mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rlmd.core.model import Outcome, Receipt

Stage = Literal["reserved", "accepted", "lapsed", "final", "unknown"]


class Change(NamedTuple):
    """One cell of the table."""

    requests: Literal[-1, 0, 1]
    after: Literal["accepted", "final"]


DUPLICATE = None

TABLE: dict[Stage, dict[Outcome, Change | None]] = {
    "reserved": {
        "accepted": Change(+1, "accepted"),
        "ok": Change(+1, "final"),
        "error": Change(0, "final"),
        "cancelled": Change(+1, "final"),
        "unsent": Change(0, "final"),
    },
    "accepted": {
        "accepted": DUPLICATE,
        "ok": Change(0, "final"),
        "error": Change(0, "final"),
        "cancelled": Change(0, "final"),
        "unsent": Change(-1, "final"),
    },
    "lapsed": {
        "accepted": Change(0, "accepted"),
        "ok": Change(0, "final"),
        "error": Change(-1, "final"),
        "cancelled": Change(0, "final"),
        "unsent": Change(-1, "final"),
    },
    "final": {
        "accepted": DUPLICATE,
        "ok": DUPLICATE,
        "error": DUPLICATE,
        "cancelled": DUPLICATE,
        "unsent": DUPLICATE,
    },
    "unknown": {
        "accepted": Change(+1, "accepted"),
        "ok": Change(+1, "final"),
        "error": Change(0, "final"),
        "cancelled": Change(+1, "final"),
        "unsent": Change(0, "final"),
    },
}


def change(receipt: Receipt, outcome: Outcome, *, under_way: bool) -> Change | None:
    """Look a report up; `under_way`: the lease is held here. None: a duplicate."""
    stage: Stage = "unknown" if receipt.stage == "reserved" and not under_way else receipt.stage
    return TABLE[stage][outcome]
