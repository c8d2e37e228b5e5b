"""What a person sees in the terminal: the status table, the checks of doctor, spans in words.

Rich is imported here and nowhere else, and this file only where it is used: the import costs three times a
bare start of Python. A pipe gets no colour and no bars; NO_COLOR switches the colour off.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATES = {
    "closed": ("ready", "green"),
    "open": ("cooling down", "red"),
    "half_open": ("on probation", "yellow"),
    "exhausted": ("limit used up", "red"),
    "disabled": ("switched off", "bright_black"),
}
"""The daemon's word for a state → ours, and its colour."""

WIDEST, NARROWEST = 20, 4
"""Cells of a bar; where not even the narrowest one fits there is none."""
GAP = 2
PIPE = 200
"""Columns where there is no terminal: nothing is cut."""
MINUTE = 60
NEARLY = 0.8
"""The share of a limit from which its bar turns yellow: the first warning's, by default."""
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


class Row(NamedTuple):
    """One line of the table: of a provider, of one of its limits, or of both."""

    provider: str
    state: Text
    limit: str
    share: float | None
    """How much of the limit is used; None draws no bar."""
    used: str
    resets: str


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


def show_history(reply: dict[str, Any]) -> None:
    """Print a history reply as a table, oldest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (reply["bucket"], "provider", "model"):
        table.add_column(name)
    for name in ("requests", "errors", "tokens", "cost", "switches"):
        table.add_column(name, justify="right")
    form = "%a %d %b %H:%M" if reply["bucket"] == "hour" else "%a %d %b"
    for row in reply["rows"]:
        table.add_row(
            f"{_time(row['at']).astimezone():{form}}",
            row["provider"],
            row["model"],
            f"{row['requests']:,}",
            ", ".join(f"{count} {kind}" for kind, count in row["errors"].items()),
            f"{row['tokens']:,}",
            f"${row['cost']:,.2f}",
            f"{row['switches']:,}",
        )
    console().print(table)


def show_status(reply: dict[str, Any]) -> None:
    """Print a status reply as a table with a bar for each limit."""
    screen = console()
    now = datetime.now(UTC)
    daemon = reply["daemon"]
    up = span((now - _time(daemon["started_at"])).total_seconds())
    screen.print(f"rlmd {daemon['version']}, up {up}, agents connected: {daemon['agents']}")
    for client in daemon["clients"]:
        place = f" in {client['directory']}" if client["directory"] else ""
        process = f", process {client['pid']}" if client["pid"] else ""
        since = f"{_time(client['since']).astimezone():%H:%M}"
        screen.print(f"  {client['client']} {client['version']}{place}{process}, since {since}", style="bright_black")
    screen.print(f"current provider: {reply['current_provider'] or 'none yet'}")
    for model, provider in reply["pins"].items():
        screen.print(f"put first by hand: {provider} for {'all models' if model == '*' else model}")
    screen.print()
    if reply["providers"]:
        screen.print(_table(screen, [row for one in reply["providers"] for row in _rows(one, now)]))
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


def _table(screen: Console, rows: list[Row]) -> Table:
    """Lay the rows out, the bars as wide as what is left of the screen."""
    titles = ("provider", "state", "limit", "used", "resets in")
    cells = [(row.provider, row.state, row.limit, row.used, row.resets) for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    bar = min(WIDEST, screen.width - sum(widths) - GAP * len(titles)) if screen.is_terminal else 0
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    for title in titles[:3]:
        table.add_column(title, no_wrap=True)
    if bar >= NARROWEST:
        table.add_column("", no_wrap=True)
    table.add_column("used", justify="right", no_wrap=True)
    table.add_column("resets in", no_wrap=True)
    for row in rows:
        drawn = [_bar(row.share, bar, screen.encoding)] if bar >= NARROWEST else []
        table.add_row(row.provider, row.state, row.limit, *drawn, row.used, row.resets)
    return table


def _rows(provider: dict[str, Any], now: datetime) -> Iterator[Row]:
    """Yield the lines of one provider: its state downwards beside its limits."""
    word, colour = STATES[provider["state"]]
    states = [Text(word, colour)]
    if provider["until"]:
        states.append(Text(_left(provider["until"], now) + " left"))
    if provider["state"] in {"open", "half_open"}:
        states.append(Text(provider["reason"] or "", "bright_black"))
    if provider["in_flight"]:
        states.append(Text(f"{provider['in_flight']} in flight"))
    limits: list[tuple[str, float | None, str, str]] = [_limit(limit, now) for limit in provider["limits"]]
    if not limits:
        limits = [("no limit", None, str(provider["request_count"]), "")]
    for line, (state, limit) in enumerate(zip_longest(states, limits)):
        yield Row(provider["id"] if line == 0 else "", state or Text(""), *(limit or ("", None, "", "")))


def _limit(limit: dict[str, Any], now: datetime) -> tuple[str, float | None, str, str]:
    """Return what is limited, the share of it that is used, both as numbers, and when it starts anew."""
    what = "" if limit["of"] == "requests" else limit["of"].removesuffix("_tokens") + " "
    per = f"per {limit['per'].removeprefix('1')}" if limit["per"] else "by its own count"
    model = f" {limit['model']}" if "model" in limit else ""
    used = f"{_amount(limit['used'])}/{_amount(limit['max'])}"
    resets = _left(limit["resets_at"], now) if limit["resets_at"] else ""
    return f"{what}{per}{model}", limit["used"] / limit["max"] if limit["max"] else 1.0, used, resets


def _bar(share: float | None, width: int, encoding: str) -> Text:
    if share is None:
        return Text("")
    colour = "red" if share >= 1 else "yellow" if share >= NEARLY else "green"
    full, empty = ("█", "░") if encoding.startswith("utf") else ("#", "-")
    cells = min(width, max(int(share * width), 1 if share else 0))
    return Text.assemble((full * cells, colour), (empty * (width - cells), "bright_black"))


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
    for target in daemon["notify"]:
        if target["ok"] is False:
            screen.print(f"\nNotifications to {target['target']} fail: {target['error']}", style="red", soft_wrap=True)
            screen.print("  mend: rlmctl notify test")


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
