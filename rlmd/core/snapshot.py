"""What a provider says of its own window in an answer's headers: a second account beside our own counts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from rlmd.core.model import MOST, YEAR, Moment, Quantity, Sum

SAME_WINDOW = 60.0
"""A reset that moved by less than this many seconds still speaks of the same window: stated resets jitter."""


class Snapshot(Struct):
    """One quantity's remaining amount as the provider last said it, less what was used here since."""

    of: Quantity
    limit: Annotated[float, Meta(gt=0, le=MOST)]
    remaining: Sum
    resets_at: Moment
    started: Moment
    """When the request began whose answer said so: an answer that was overtaken is not believed."""
    since: Sum = 0.0
    """Used here by requests that came after that one."""
    span: Annotated[float, Meta(gt=0, le=YEAR)] | None = None
    """Length of the window in seconds, where the provider tells it."""

    def left(self) -> float:
        """Tell how much may still be used before the reset."""
        return self.remaining - self.since

    def free_at(self, amount: float, now: float) -> float | None:
        """When this much may be used; None: now, as far as the provider's word goes."""
        left = self.left()
        if now >= self.resets_at or (left >= amount and left > 0):
            return None
        return self.resets_at

    def used(self) -> float:
        """Tell how much everybody who shares the window has used."""
        return max(0.0, self.limit - self.left())


def merge(held: Snapshot | None, new: Snapshot, now: float) -> Snapshot:
    """Take a newer snapshot in.

    Within one window the amount left never grows and the reset never moves away, whatever the order in which answers
    arrive. The next window begins when the reset has passed or moved by at least `SAME_WINDOW`.
    """
    if held is None or now >= held.resets_at:
        return new
    if new.started < held.started <= now:  # else the clock has stepped back since
        return held
    if abs(new.resets_at - held.resets_at) >= SAME_WINDOW:
        return new
    left = min(held.left(), new.left())
    resets_at = min(held.resets_at, new.resets_at)
    return Snapshot(new.of, new.limit, left + new.since, resets_at, new.started, new.since, new.span)
