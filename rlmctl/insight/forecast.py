"""What is coming, from what status says: who lasts until when at this pace, and what switching has gained so far.

A pace is what was used of a window since that opened, over the time since. It is told only where a twentieth of the
limit is used and a twentieth of the window is over; of a rolling window, and of what a provider says of its own
limits, nobody knows when it began.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rlmctl.show.text import limit_name, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmd.client.connection import Client

ENOUGH = 0.05
"""The share of a limit and of its window that has to have passed before they say anything."""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MINUTE = 60
ROUGH = 10 * MINUTE
"""A time that is more than an hour away is told in steps of so many seconds."""

DAYS = 7
"""How far back status looks for what it has done for a person."""


def gained(history: dict[str, Any], when: str) -> str | None:
    """Say what switching has done for a person, from a history reply; None where it was nothing."""
    # A daemon of a version before this one says neither.
    times, waited = history.get("kept_going", 0), history.get("not_waited_ms", 0) / 1000
    if not times:
        return None
    often = "once" if times == 1 else f"{times:,} times"
    spared = f"; {span(waited)} not waited" if waited >= MINUTE else ""
    return f"Kept going {often} {when}{spared}."


def coming(status: dict[str, Any], now: datetime) -> Iterator[str]:
    """Say what will happen if all goes on as it does: a sentence each, the earliest first."""
    providers = status["providers"]
    able = [provider for provider in providers if provider["available"]]
    if not able:
        back = sorted((_moment(one["until"]), one["id"]) for one in providers if one["until"])
        if back:
            yield f"{back[0][1]} is back at {_clock(back[0][0], now)}."
        return
    empty = sorted((at, one["id"]) for one in able if (at := _empty_at(one, now)))
    for at, name in empty:
        yield f"At this pace {name} lasts until about {_clock(_rounded(at, now), now)}."
    current = next((one for one in able if one["id"] == status["current_provider"]), None)
    if current and not any(name == current["id"] for _, name in empty):
        known = [limit for limit in current["limits"] if _pace(limit, now)]
        if known:
            first = min(known, key=lambda limit: _moment(limit["resets_at"]))
            resets = _clock(_moment(first["resets_at"]), now)
            yield f"At this pace {current['id']} lasts beyond {resets}, when its limit {limit_name(first)} starts anew."


def _empty_at(provider: dict[str, Any], now: datetime) -> datetime | None:
    """Return when the first limit on all of a provider is used up."""
    ends = [runs_out(limit, now) for limit in provider["limits"] if "model" not in limit]
    return min((end for end in ends if end), default=None)


def runs_out(limit: dict[str, Any], now: datetime) -> datetime | None:
    """Return when a limit is used up at this pace; None where that is not before it resets, or not known."""
    pace = _pace(limit, now)
    if not pace:
        return None
    left = limit["max"] - limit["used"] - limit["reserved"]
    resets = _moment(limit["resets_at"])
    seconds: float = left / pace
    return now + timedelta(seconds=seconds) if seconds < (resets - now).total_seconds() else None


def _pace(limit: dict[str, Any], now: datetime) -> float:
    """Return what is used of a limit in a second; 0 where too little is known."""
    if limit["window"] not in {"calendar", "first_use"} or not limit["resets_at"]:
        return 0.0
    resets = _moment(limit["resets_at"])
    opened = _opened(limit["per"], resets)
    passed, length = (now - opened).total_seconds(), (resets - opened).total_seconds()
    if passed < ENOUGH * length or limit["used"] < ENOUGH * limit["max"]:
        return 0.0
    return float(limit["used"] / passed)


def _opened(per: str, resets: datetime) -> datetime:
    """Return when a window opened that ends then."""
    if per == "month":
        return (resets.astimezone() - timedelta(days=1)).replace(day=1)
    return resets - timedelta(seconds=int(per[:-1]) * SECONDS[per[-1]])


def _rounded(at: datetime, now: datetime) -> datetime:
    """Return a time no more precise than anybody knows it, and never later."""
    step = ROUGH if at - now > timedelta(hours=1) else MINUTE
    return datetime.fromtimestamp(at.timestamp() // step * step, UTC)


def _clock(at: datetime, now: datetime) -> str:
    """Tell a time: `17:30` today, `Mon 12 Jan 17:30` on another day."""
    local = at.astimezone()
    today = local.date() == now.astimezone().date()
    return f"{local:%H:%M}" if today else f"{local:%a} {local.day} {local:%b %H:%M}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def saved(daemon: Client) -> list[str]:
    """Ask for what was done for the person in the last days; nothing where the history cannot be read."""
    from rlmd.client.connection import DaemonRefusedError

    try:
        since = datetime.now(UTC) - timedelta(days=DAYS)
        sentence = gained(daemon.request("history", since=since.isoformat(), bucket="day"), f"in the last {DAYS} days")
    except DaemonRefusedError:
        return []
    return [sentence] if sentence else []
