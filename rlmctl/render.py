"""What a person sees in the terminal: the status table, the checks of doctor, spans in words.

Rich is imported here and nowhere else, and this file only where it is used: the import costs three times a
bare start of Python. A pipe gets no colour and no bars; NO_COLOR switches the colour off.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES = {
    "closed": ("ready", "green"),
    "open": ("cooling down", "red"),
    "half_open": ("on probation", "yellow"),
    "exhausted": ("limit used up", "red"),
    "disabled": ("switched off", "bright_black"),
}
"""The daemon's word for a state → ours, and its colour."""

BAR = 12
"""Cells of a bar: the table then fits into 80 columns."""
PIPE = 200
"""Columns where there is no terminal: nothing is cut."""
MINUTE = 60
NEARLY = 0.8
"""The share of a limit from which its bar turns yellow: the first warning's, by default."""
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


def console() -> Console:
    """Return the terminal, without colour where none is wanted and wide enough for anything in a pipe."""
    terminal = sys.stdout.isatty()
    return Console(
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else PIPE,
        highlight=False,
        emoji=False,
        markup=False,
    )


def show_status(reply: dict[str, Any]) -> None:
    """Print a status reply as a table with a bar for each limit."""
    screen = console()
    now = datetime.now(UTC)
    daemon = reply["daemon"]
    up = span((now - _time(daemon["started_at"])).total_seconds())
    screen.print(f"rlmd {daemon['version']}, up {up}, agents connected: {daemon['agents']}")
    for client in daemon["clients"]:
        place = f" in {client['directory']}" if client["directory"] else ""
        screen.print(f"  {client['client']} {client['version']}{place}", style="bright_black")
    screen.print(f"current provider: {reply['current_provider'] or 'none yet'}")
    for model, provider in reply["pins"].items():
        screen.print(f"put first by hand: {provider} for {'all models' if model == '*' else model}")
    screen.print()
    if reply["providers"]:
        screen.print(_table(reply["providers"], now, bars=screen.is_terminal, encoding=screen.encoding))
    else:
        screen.print("No provider is configured, so every agent does as it would without rlmd.")
    _show_blocked(screen, reply["providers"], now)
    _show_troubles(screen, daemon)


def show_checks(checks: Iterable[tuple[str, str, str, str]]) -> None:
    """Print (name, state, meaning, mend) a line; a state is `ok`, `warning` or `wrong`."""
    screen = console()
    for name, state, meaning, mend in checks:
        mark, colour = MARKS[state]
        line = Text.assemble((f"{mark} ", colour), f"{name:<17}", meaning)
        screen.print(line, soft_wrap=True)
        if mend:
            screen.print(Text.assemble(" " * 19, ("mend: ", "bright_black"), mend), soft_wrap=True)


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


def _table(providers: list[dict[str, Any]], now: datetime, *, bars: bool, encoding: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for title in ("provider", "state", "limit", *([""] if bars else [])):
        table.add_column(title, no_wrap=True)
    table.add_column("used", justify="right", no_wrap=True)
    table.add_column("resets in", no_wrap=True)
    table.add_column("in flight", justify="right")
    for provider in providers:
        limits = [_limit(limit, now, encoding) for limit in provider["limits"]]
        if not limits:
            limits = [("no limit", Text(""), str(provider["request_count"]), "")]
        state = _state(provider, now)
        for row in range(max(len(limits), len(state))):
            what, bar, used, resets = limits[row] if row < len(limits) else ("", Text(""), "", "")
            table.add_row(
                provider["id"] if row == 0 else "",
                state[row] if row < len(state) else "",
                what,
                *([bar] if bars else []),
                used,
                resets,
                str(provider["in_flight"]) if row == 0 else "",
            )
    return table


def _state(provider: dict[str, Any], now: datetime) -> list[Text]:
    """Return the lines of the state column: the state, how long it will last, why."""
    word, colour = STATES[provider["state"]]
    lines = [Text(word, colour)]
    if provider["until"]:
        lines.append(Text(_left(provider["until"], now) + " left"))
    if provider["reason"]:
        lines.append(Text(provider["reason"], "bright_black"))
    return lines


def _limit(limit: dict[str, Any], now: datetime, encoding: str) -> tuple[str, Text, str, str]:
    """Return the cells of one limit: of what, its bar, how much is used, when it starts anew."""
    share = limit["used"] / limit["max"] if limit["max"] else 1.0
    colour = "red" if share >= 1 else "yellow" if share >= NEARLY else "green"
    full, empty = ("█", "░") if encoding.startswith("utf") else ("#", "-")
    cells = min(BAR, int(share * BAR))
    what = "" if limit["of"] == "requests" else limit["of"].removesuffix("_tokens") + " "
    per = f"per {limit['per'].removeprefix('1')}" if limit["per"] else "by its own count"
    model = f" {limit['model']}" if "model" in limit else ""
    return (
        f"{what}{per}{model}",
        Text.assemble((full * cells, colour), (empty * (BAR - cells), "bright_black")),
        f"{_amount(limit['used'])}/{_amount(limit['max'])}",
        _left(limit["resets_at"], now) if limit["resets_at"] else "",
    )


def _show_blocked(screen: Console, providers: list[dict[str, Any]], now: datetime) -> None:
    for provider in providers:
        for blocked in provider["blocked"]:
            word, colour = STATES[blocked["state"]]
            left = f", {_left(blocked['until'], now)} left" if blocked["until"] else ""
            what = f"{provider['id']}, {blocked['model']} only: "
            screen.print(Text.assemble("\n", what, (word, colour), f"{left} ({blocked['reason']})"))


def _show_troubles(screen: Console, daemon: dict[str, Any]) -> None:
    if daemon["config_error"]:
        screen.print(f"\nConfiguration error: {daemon['config_error']}", style="red", soft_wrap=True)
        screen.print("  mend: rlmctl config check")
    if not daemon["durable"]:
        screen.print("\nThe state cannot be written to disk: a restart would forget it.", style="red")
        screen.print("  mend: rlmctl doctor")


def _left(until: str, now: datetime) -> str:
    return span((_time(until) - now).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _amount(number: float) -> str:
    """Write a count so that it stays narrow: 50, 12.5k, 3M; money keeps its cents."""
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000_000 if letter == 'M' else 1000):.4g}{letter}"
    return f"{number:.2f}".rstrip("0").rstrip(".")
