"""When providers rested, read from the log: from `exhausted` and cooling down until they were back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


MOST_EVENTS = 10_000
"""What the daemon tells of its log at once."""


class Rest(NamedTuple):
    """A span in which a provider, or one model of it, could not serve."""

    provider: str
    model: str | None
    """None: all of them, or not known to be one only."""
    since: datetime
    until: datetime
    why: str


def rests(events: Iterable[dict[str, Any]], now: datetime) -> list[Rest]:
    """Return the rests that a log tells of, by their start; one that still goes on ends now.

    A rest ends when its time is up, or earlier where the log says so; a later word on the same rest moves its end.
    """
    found: list[Rest] = []
    going_on: dict[tuple[str, str | None], Rest] = {}
    for event in events:
        at = datetime.fromisoformat(event["at"])
        provider, model = event.get("provider"), event.get("model")
        if _begins(event):
            key = provider or "", model
            if key in going_on and going_on[key].until < at:
                found.append(going_on.pop(key))
            since = going_on[key].since if key in going_on else at
            until = datetime.fromisoformat(event["until"])
            going_on[key] = Rest(provider or "", model, since, until, event["message"])
        elif _ends(event):
            for key in [k for k in going_on if provider in {None, k[0]} and (model is None or k[1] in {None, model})]:
                rest = going_on.pop(key)
                found.append(rest._replace(until=min(rest.until, at)))
    found += going_on.values()
    cut = (rest._replace(until=min(rest.until, now)) for rest in found)
    return sorted((rest for rest in cut if rest.since < rest.until), key=lambda rest: (rest.since, rest.provider))


def _begins(event: dict[str, Any]) -> bool:
    return event["event"] in {"exhausted", "state"} and "until" in event and "provider" in event


def _ends(event: dict[str, Any]) -> bool:
    return event["event"] in {"recovered", "reset"} or (event["event"] == "state" and event.get("reason") == "closed")
