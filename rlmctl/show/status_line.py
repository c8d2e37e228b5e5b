"""`status --format`: one line for a prompt or a status line, filled from a status reply. It is in a hurry, too."""

from __future__ import annotations

import re
import time

from rlmctl.errors import WRONG, CommandError
from rlmctl.show.text import STATES, amount, limit_name, share, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

NOTHING = "-"
"""Stands where there is nothing to tell: no provider yet, no limit, no end."""
FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")

OF_ALL: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "current": ("who served last, or was put first since", lambda s: s["current_provider"]),
    "available": ("how many providers may serve", lambda s: sum(p["available"] for p in s["providers"])),
    "providers": ("how many there are", lambda s: len(s["providers"])),
    "away": ("those that may not", lambda s: ",".join(p["id"] for p in s["providers"] if not p["available"])),
    "agents": ("how many agents are connected", lambda s: s["daemon"]["agents"]),
    "version": ("of the daemon", lambda s: s["daemon"]["version"]),
}
"""Fields about everything: what each means, and how it is read from a status reply."""
OF_ONE: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "state": (", ".join(STATES.values()), lambda p: STATES[p["state"]]),
    "used": ("of its tightest limit; without one: requests", lambda p: _limit(p, "used", p["request_count"])),
    "max": ("the most of it", lambda p: _limit(p, "max")),
    "left": ("of it", lambda p: _limit(p, "left")),
    "percent": ("used of it, 0 to 100", lambda p: _limit(p, "percent")),
    "limit": ('its name, such as "per h"', lambda p: _limit(p, "name")),
    "resets_in": ('until it starts anew, such as "25 min"', lambda p: _from_now(_limit(p, "resets_at"))),
    "resets_at": ('when, such as "17:30"', lambda p: _clock(_limit(p, "resets_at"))),
    "back_in": ("until the provider may serve again", lambda p: _from_now(p["until"])),
    "back_at": ("when", lambda p: _clock(p["until"])),
    "reason": ("why it may not, in a word", lambda p: p["reason"]),
    "in_flight": ("requests under way", lambda p: p["in_flight"]),
    "requests": ("how many were counted", lambda p: p["request_count"]),
    "errors": ("how many failed", lambda p: p["error_count"]),
}
"""Fields about one provider: the current one, or the one whose id stands before a point."""


def filled(form: str, status: dict[str, Any]) -> str:
    """Fill the fields of a form. Raises `CommandError` for one that there is not, and names the nearest."""
    return FIELD.sub(lambda found: found[0][0] if found[1] is None else _told(found[1], status), form)


def described() -> str:
    """Return the fields and their meanings, for --help."""
    both = [(name, meaning) for fields in (OF_ALL, OF_ONE) for name, (meaning, _) in fields.items()]
    lines = [f"  {{{name}}}".ljust(15) + meaning for name, meaning in both]
    return "\n".join(
        [
            "The fields of --format:",
            *lines,
            "",
            f"From {{{next(iter(OF_ONE))}}} on they are the current provider's; {{anthropic.left}} is another one's.",
            f'A field with nothing to tell is "{NOTHING}"; {{{{ and }}}} are braces. With --watch a line is printed',
            "whenever it changes, which is what bars such as waybar or polybar read.",
        ]
    )


def _told(name: str, status: dict[str, Any]) -> str:
    if name in OF_ALL:
        value = OF_ALL[name][1](status)
    else:
        provider, _, field = name.rpartition(".")
        wanted = provider or status["current_provider"]
        found = next((one for one in status["providers"] if one["id"] == wanted), None)
        if field not in OF_ONE or (provider and found is None):
            raise _unknown(name, status)
        value = OF_ONE[field][1](found) if found else None
    return NOTHING if value in {None, ""} else str(value)


def _unknown(name: str, status: dict[str, Any]) -> CommandError:
    from rlmctl.errors import did_you_mean

    known = [*OF_ALL, *OF_ONE, *(f"{one['id']}.{field}" for one in status["providers"] for field in OF_ONE)]
    return CommandError(f"There is no field {name!r}.{did_you_mean(name, known)}", "rlmctl status --help", WRONG)


def _limit(provider: dict[str, Any], what: str, without: Any = None) -> Any:
    """Return something of the provider's tightest limit."""
    tightest = max(provider["limits"], key=share, default=None)
    if tightest is None:
        return without
    match what:
        case "left":
            return amount(max(0, tightest["max"] - tightest["used"] - tightest["reserved"]))
        case "percent":
            return int(100 * share(tightest))
        case "name":
            return limit_name(tightest)
        case "used" | "max":
            return amount(tightest[what])
    return tightest[what]


def _from_now(stamp: str | None) -> str | None:
    return None if stamp is None else span(_moment(stamp).timestamp() - time.time())


def _clock(stamp: str | None) -> str | None:
    return None if stamp is None else f"{_moment(stamp).astimezone():%H:%M}"


def _moment(stamp: str) -> datetime:
    from datetime import datetime

    return datetime.fromisoformat(stamp)
