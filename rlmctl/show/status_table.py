"""The status as a person sees it: a table with a bar for each limit, what is wrong, what is coming."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlmctl.insight import forecast
from rlmctl.show.terminal import bar, moment
from rlmctl.show.text import STATES, amount, arrow, limit_name, share, span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.console import Console, RenderableType

COLOURS = {"closed": "green", "open": "red", "half_open": "yellow", "exhausted": "red", "disabled": "dim"}
WIDEST, NARROWEST = 20, 4
"""Cells of a bar; where not even the narrowest one fits there is none."""
GAP = 2


class Row(NamedTuple):
    """One line of the table: of a provider, of one of its limits, or of both."""

    provider: Text
    state: Text
    limit: str
    share: float | None
    """How much of the limit is used; None draws no bar."""
    used: str
    resets: str


def picture(status: dict[str, Any], endings: list[str], now: datetime, screen: Console) -> RenderableType:
    """Return what to print of a status reply on this screen; `endings` are sentences that follow it."""
    providers = status["providers"]
    parts: list[RenderableType] = [*_heading(status, now), ""]
    if providers:
        current = status["current_provider"]
        parts.append(_table(screen, [row for one in providers for row in _rows(one, current, now, screen)]))
    else:
        parts.append("No provider is configured, so every agent does as it would without rlmd.")
        parts.append("  mend: rlmctl setup")
    parts += _blocked(providers, now)
    parts += _troubles(status["daemon"])
    told = [*forecast.coming(status, now), *endings]
    if told:
        parts += ["", *(Text(sentence) for sentence in told)]
    return Group(*parts)


def _heading(status: dict[str, Any], now: datetime) -> Iterator[Text]:
    daemon = status["daemon"]
    up = span((now - moment(daemon["started_at"])).total_seconds())
    yield Text(f"rlmd {daemon['version']}, up {up}, agents connected: {daemon['agents']}")
    for client in daemon["clients"]:
        place = f" in {client['directory']}" if client["directory"] else ""
        process = f", process {client['pid']}" if client["pid"] else ""
        since = f"{moment(client['since']).astimezone():%H:%M}"
        name = client["name"] or client["client"]
        yield Text(f"  {name}{place}{process}, since {since} ({client['client']} {client['version']})", "dim")
    yield Text.assemble("current provider: ", (status["current_provider"] or "none yet", "bold"))
    for model, provider in status["pins"].items():
        yield Text(f"put first by hand: {provider} for {'all models' if model == '*' else model}")


def _table(screen: Console, rows: list[Row]) -> Table:
    """Lay the rows out, the bars as wide as what is left of the screen."""
    titles = ("  provider", "state", "limit", "used", "resets in")
    cells = [(row.provider, row.state, row.limit, row.used, row.resets) for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    width = min(WIDEST, screen.width - sum(widths) - GAP * len(titles)) if screen.is_terminal else 0
    drawn = width >= NARROWEST
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    for title in titles[:2]:
        table.add_column(title, no_wrap=True)
    table.add_column("limit", overflow="fold")  # where it is narrow this one gives way
    if drawn:
        table.add_column("", no_wrap=True)
    table.add_column("used", justify="right", no_wrap=True)
    table.add_column("resets in", no_wrap=True)
    for row in rows:
        bars = [bar(row.share, width, screen)] if drawn else []
        table.add_row(row.provider, row.state, row.limit, *bars, row.used, row.resets)
    return table


def _rows(provider: dict[str, Any], current: str | None, now: datetime, screen: Console) -> Iterator[Row]:
    """Yield the lines of one provider: its state downwards beside its limits."""
    states = [Text(STATES[provider["state"]], COLOURS[provider["state"]])]
    if provider["until"]:
        states.append(Text(_left(provider["until"], now) + " left"))
    if provider["state"] in {"open", "half_open"}:
        states.append(Text(provider["reason"] or "", "dim"))
    if provider["in_flight"]:
        states.append(Text(f"{provider['in_flight']} in flight"))
    limits = [_limit(limit, now) for limit in provider["limits"]]
    if not limits:
        limits = [("no limit", None, str(provider["request_count"]), "")]
    names = [
        Text(f"{arrow(screen.encoding)} {provider['id']}", "bold")
        if provider["id"] == current
        else Text(f"  {provider['id']}")
    ]
    for name, state, limit in zip_longest(names, states, limits):
        yield Row(name or Text(""), state or Text(""), *(limit or ("", None, "", "")))


def _limit(limit: dict[str, Any], now: datetime) -> tuple[str, float | None, str, str]:
    """Return what is limited, the share of it that is used, both as numbers, and when it starts anew."""
    used = f"{amount(limit['used'])}/{amount(limit['max'])}"
    resets = _left(limit["resets_at"], now) if limit["resets_at"] else ""
    return limit_name(limit), share(limit), used, resets


def _blocked(providers: list[dict[str, Any]], now: datetime) -> Iterator[RenderableType]:
    for provider in providers:
        for blocked in provider["blocked"]:
            state = (STATES[blocked["state"]], COLOURS[blocked["state"]])
            left = f", {_left(blocked['until'], now)} left" if blocked["until"] else ""
            what = f"{provider['id']}, {blocked['model']} only: "
            yield Text.assemble("\n", what, state, f"{left} ({blocked['reason']})")


def _troubles(daemon: dict[str, Any]) -> Iterator[RenderableType]:
    if daemon["config_error"]:
        yield Text(f"\nConfiguration error: {daemon['config_error']}", "red")
        yield "  mend: rlmctl config check"
    if not daemon["durable"]:
        yield Text("\nThe state cannot be written to disk: a restart would forget it.", "red")
        yield "  mend: rlmctl doctor"
    for target in daemon["notify"]:
        if target["ok"] is False:
            yield Text(f"\nNotifications to {target['target']} fail: {target['error']}", "red")
            yield "  mend: rlmctl notify test"


def _left(until: str, now: datetime) -> str:
    return span((moment(until) - now).total_seconds())
