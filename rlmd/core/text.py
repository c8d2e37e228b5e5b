"""How times, amounts and limits are told to a person."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import tzinfo

    from rlmd.core.model import Limit, Quantity


def clock(at: float, now: float, zone: tzinfo | None) -> str:
    """Tell a time to a person: `17:30` today, `Mon 12 Jan 17:30` on another day."""
    return _clock(at, now // 60, zone or UTC)


@lru_cache(maxsize=256)
def _clock(at: float, minute: float, zone: tzinfo) -> str:
    # Kept, because every request that passes a resting provider over tells the same time again.
    local, today = (datetime.fromtimestamp(t, zone) for t in (at, minute * 60))
    return f"{local:%H:%M:%S}" if local.date() == today.date() else f"{local:%a} {local.day} {local:%b %H:%M}"


def plain(amount: float, of: Quantity) -> str:
    """Write an amount of something limited: `1,500`, `$2.50`."""
    return f"${amount:,.2f}" if of == "cost" else f"{amount:,.0f}"


def counted(amount: int, what: str) -> str:
    """Write a number of things: `1 provider`, `1,500 requests`."""
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"


def of_model(limit: Limit) -> str:
    """Name the model of a limit that holds for one only."""
    return f" of {limit.model}" if limit.model else ""


def stated(limit: Limit) -> str:
    """Write a limit: `50 requests per 1h`, `1 request per 1m of opus`, `$5.00 per 1d`."""
    what = "" if limit.of == "cost" else " " + limit.of.replace("_", " ")
    if limit.max == 1:
        what = what.removesuffix("s")
    return f"{plain(limit.max, limit.of)}{what} per {limit.per}{of_model(limit)}"


def near(name: str, names: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return which of these names was probably meant; `cutoff` is how much of it has to be right, of 1."""
    from difflib import get_close_matches  # noqa: PLC0415  (a start without a mistake does without it)

    return next(iter(get_close_matches(name, names, 1, cutoff)), None)


def known(wanted: str, names: Collection[str]) -> str:
    """Go on after a name that there is not: which one was probably meant, and which there are."""
    there = ", ".join(sorted(names)) or "none yet (rlmctl setup)"
    meant = near(wanted, names)
    return f"; did you mean {meant!r}? There are: {there}." if meant else f"; there are: {there}."
