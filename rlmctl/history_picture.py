"""Usage over time as a person sees it in the terminal: a chart for each provider, and what it adds up to."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlmctl.render import can_draw, moment
from rlmctl.sums import Sums, add_up
from rlmctl.words import amount, money

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from rlmctl.rests import Rest

HEIGHT = 4
"""Lines of a chart."""
WIDEST = 120
DAY = timedelta(days=1)
BROADEST = 6
"""Cells of a column."""
TICKS = 5
"""Times below the charts, at most."""


class Glyphs(NamedTuple):
    """What charts are drawn with."""

    levels: str
    """From a little to a full cell."""
    line: str
    rest: str
    error: str


PRETTY = Glyphs("▁▂▃▄▅▆▇█", "─", "━", "\N{MULTIPLICATION SIGN}")
PLAIN = Glyphs(".:#", "-", "=", "x")


class Axis(NamedTuple):
    """Which column a time falls into."""

    start: datetime
    step: timedelta
    columns: int
    wide: int
    """Cells of a column."""

    def column(self, at: datetime) -> int:
        """Return the column of a time, within the chart."""
        return min(self.columns - 1, max(0, int((at - self.start) / self.step)))

    def cell(self, at: datetime) -> int:
        """Return the cell of a time, within the chart."""
        return min(self.columns * self.wide - 1, max(0, int((at - self.start) * self.wide / self.step)))


def picture(
    history: dict[str, Any], rests: Sequence[Rest], since: datetime, now: datetime, screen: Console
) -> RenderableType:
    """Return what to print of a history reply on this screen."""
    rows = history["rows"]
    providers = list(dict.fromkeys(row["provider"] for row in sorted(rows, key=lambda row: row["provider"])))
    glyphs = PRETTY if can_draw("".join(PRETTY), screen) else PLAIN
    axis = _axis(history["bucket"], since, now, min(WIDEST, screen.width))
    charts = []
    for provider in providers:
        used, failed = [0] * axis.columns, [0] * axis.columns
        for row in rows:
            if row["provider"] == provider:
                column = axis.column(moment(row["at"]))
                used[column] += row["requests"]
                failed[column] += sum(row["errors"].values())
        charts.append((provider, used, failed))
    highest = max((max(used) for _, used, _ in charts), default=0)
    step = _step(axis, history["bucket"])
    parts: list[RenderableType] = []
    for provider, used, failed in charts:
        parts.append(Text.assemble((provider, "bold"), f"  {sum(used):,} requests, at most {max(used):,} in {step}"))
        own = [(axis.cell(rest.since), axis.cell(rest.until)) for rest in rests if rest.provider == provider]
        resting = {cell for first, last in own for cell in range(first, last + 1)}
        parts += [*_chart(used, failed, resting, highest, axis, glyphs), ""]
    parts += [_times(axis), _legend(glyphs), "", _table(rows)]
    return Group(*parts)


def _axis(bucket: str, since: datetime, now: datetime, width: int) -> Axis:
    """Lay time out over the width: a column is a day, or as many hours as it takes."""
    if bucket == "day":
        start = since.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        step = DAY
    else:
        start = since.replace(minute=0, second=0, microsecond=0)
        step = timedelta(hours=1)
    columns = max(1, ceil((now - start) / step))
    if columns > width:
        step *= ceil(columns / width)
        columns = ceil((now - start) / step)
    return Axis(start, step, columns, max(1, min(BROADEST, width // columns)))


def _step(axis: Axis, bucket: str) -> str:
    """Say what a column is."""
    count = round(axis.step / (DAY if bucket == "day" else timedelta(hours=1)))
    return {"day": "a day", "hour": "an hour"}[bucket] if count == 1 else f"{count} {bucket}s"


def _chart(
    used: list[int], failed: list[int], resting: set[int], highest: int, axis: Axis, glyphs: Glyphs
) -> Iterator[Text]:
    """Draw one provider: columns of requests, the errors below, and the line, heavy where it rested."""
    steps = len(glyphs.levels)
    heights = [ceil(count * HEIGHT * steps / highest) if highest else 0 for count in used]
    for line in reversed(range(ceil(max(heights) / steps))):
        text = Text("", "cyan")
        for height in heights:
            level = min(steps, max(0, height - line * steps))
            text.append(_cell(glyphs.levels[level - 1] if level else " ", axis))
        yield text
    base = Text("")
    for cell in range(axis.columns * axis.wide):
        base.append(*((glyphs.rest, "red") if cell in resting else (glyphs.line, "dim")))
    yield base
    if any(failed):
        yield Text("".join(_cell(glyphs.error if count else " ", axis, once=True) for count in failed), "red")


def _cell(glyph: str, axis: Axis, *, once: bool = False) -> str:
    """Draw a column's cells: with a gap where there is room for one."""
    if axis.wide == 1:
        return glyph
    return (glyph if once else glyph * (axis.wide - 1)).ljust(axis.wide)


def _times(axis: Axis) -> Text:
    """Name some of the times below the charts."""
    span = axis.columns * axis.step
    form = "%a %d %b" if span > 4 * DAY else "%a %H:%M" if span > DAY else "%H:%M"
    every = ceil(axis.columns / min(TICKS, max(1, axis.columns * axis.wide // 12)))
    line = ""
    for column in range(0, axis.columns, every):
        line = line.ljust(column * axis.wide) + f"{(axis.start + column * axis.step).astimezone():{form}}"
    return Text(line, "dim")


def _legend(glyphs: Glyphs) -> Text:
    return Text.assemble((glyphs.error, "red"), " errors   ", (glyphs.rest, "red"), " resting, or a limit used up")


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
