"""What the daemon says, in a person's words: states, spans, amounts, limits. Prompts wait: it imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATES = {
    "closed": "ready",
    "open": "cooling down",
    "half_open": "on probation",
    "exhausted": "limit used up",
    "disabled": "switched off",
}
"""The daemon's word for a state → ours."""
MINUTE = 60


def arrow(encoding: str | None) -> str:
    """Return what points at the one that serves, in what a terminal can show."""
    try:
        "→".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ">"
    return "→"


def span(seconds: float) -> str:
    """Return a span of time in words: `89 s`, `5 min`, `2 h 13 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    parts: list[str] = []
    for size, unit in ((24 * 60 * MINUTE, "d"), (60 * MINUTE, "h"), (MINUTE, "min")):
        amount, whole = divmod(whole, size)
        if amount or parts:
            parts.append(f"{amount} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def amount(number: float) -> str:
    """Write a count so that it stays narrow: 50, 12.5k, 3M; money keeps its cents."""
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000_000 if letter == 'M' else 1000):.4g}{letter}"
    return f"{number:.2f}".rstrip("0").rstrip(".")


def money(dollars: float, *, exact: bool = False) -> str:
    """Write an amount of money: to the cent; where it is little, or is to be exact, to a hundredth of that."""
    whole, _, parts = f"{dollars:,.4f}".partition(".")
    return f"${whole}.{parts.rstrip('0'):0<2}" if exact or dollars < 1 else f"${dollars:,.2f}"


def limit_name(limit: dict[str, Any]) -> str:
    """Say of what a limit is: `per h`, `tokens per m`, `cost per d opus`."""
    what = "" if limit["of"] == "requests" else limit["of"].removesuffix("_tokens") + " "
    per = f"per {limit['per'].removeprefix('1')}" if limit["per"] else "by its own count"
    return f"{what}{per}{' ' + limit['model'] if 'model' in limit else ''}"


def share(limit: dict[str, Any]) -> float:
    """Return how much of a limit is used or reserved: from 0 to 1, and beyond where it was lowered since."""
    taken: float = limit["used"] + limit["reserved"]
    return taken / limit["max"] if limit["max"] else 1.0
