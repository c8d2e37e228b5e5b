"""Usage over time as a person sees it in the terminal: a chart for each provider, and what it adds up to."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlmctl.insight.totals import Sums, add_up
from rlmctl.show.charts import DAY, HOUR, Lane, axis, draw
from rlmctl.show.terminal import moment
from rlmctl.show.text import amount, money

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import Console, RenderableType

    from rlmctl.insight.rests import Rest


def picture(
    history: dict[str, Any], rests: Sequence[Rest], since: datetime, now: datetime, screen: Console
) -> RenderableType:
    """Return what to print of a history reply on this screen."""
    rows = history["rows"]
    lanes = [
        Lane(
            provider,
            [(moment(row["at"]), row["requests"]) for row in own],
            [(moment(row["at"]), sum(row["errors"].values())) for row in own],
            [(rest.since, rest.until) for rest in rests if rest.provider == provider],
        )
        for provider in sorted({row["provider"] for row in rows})
        for own in [[row for row in rows if row["provider"] == provider]]
    ]
    if history["bucket"] == "day":
        start, step = since.astimezone().replace(hour=0, minute=0, second=0, microsecond=0), DAY
    else:
        start, step = since.astimezone().replace(minute=0, second=0, microsecond=0), HOUR
    return Group(*draw(lanes, axis(start, now, step, screen.width), screen), "", _table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    """Add up what each provider and model did."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("provider", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in ("requests", "tokens", "cost", "switches"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("errors")
    by_place = sorted(rows, key=_place)
    for (provider, model), own in groupby(by_place, _place):
        _add(table, provider, model, add_up(list(own)))
    if len({_place(row) for row in rows}) > 1:
        _add(table, "together", "", add_up(rows))
    return table


def _place(row: dict[str, Any]) -> tuple[str, str]:
    return row["provider"], row["model"]


def _add(table: Table, provider: str, model: str, sums: Sums) -> None:
    errors = ", ".join(f"{count:,} {kind}" for kind, count in sums.errors.items())
    cells = f"{sums.requests:,}", amount(sums.tokens), money(sums.cost), f"{sums.switches:,}"
    table.add_row(provider, model, *cells, errors or Text("none", "dim"))
