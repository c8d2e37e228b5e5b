"""Charts for the terminal: a lane for each provider on one axis of time, with what failed and when it rested."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from rlmctl.show.terminal import can_draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

HEIGHT = 4
"""Lines of a chart."""
WIDEST = 120
BROADEST = 6
"""Cells of a column."""
TICKS = 5
"""Times below the charts, at most."""
PARTS = (1, 2, 3, 4, 6, 8, 12)
"""Hours into which a day can be parted."""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Glyphs(NamedTuple):
    """What charts are drawn with."""

    levels: str
    """From a little to a full cell."""
    line: str
    rest: str
    error: str


PRETTY = Glyphs("▁▂▃▄▅▆▇█", "─", "━", "\N{MULTIPLICATION SIGN}")
PLAIN = Glyphs(".:#", "-", "=", "x")


class Lane(NamedTuple):
    """What one provider did."""

    name: str
    used: Sequence[tuple[datetime, int]]
    """Requests by the time at which they began to be counted."""
    failed: Sequence[tuple[datetime, int]]
    resting: Sequence[tuple[datetime, datetime]]


class Axis(NamedTuple):
    """Which column a time falls into."""

    start: datetime
    step: timedelta
    columns: int
    wide: int
    """Cells of a column."""
    zone: tzinfo | None
    """In which times are told; None: this machine's."""

    def column(self, at: datetime) -> int:
        """Return the column of a time, within the chart."""
        return min(self.columns - 1, max(0, int((at - self.start) / self.step)))

    def cell(self, at: datetime) -> int:
        """Return the cell of a time, within the chart."""
        return min(self.columns * self.wide - 1, max(0, int((at - self.start) * self.wide / self.step)))

    def counts(self, amounts: Sequence[tuple[datetime, int]]) -> list[int]:
        """Add amounts up by column."""
        sums = [0] * self.columns
        for at, amount in amounts:
            sums[self.column(at)] += amount
        return sums


def axis(start: datetime, end: datetime, step: timedelta, width: int, zone: tzinfo | None = None) -> Axis:
    """Lay time out over the width: a column is a step, or as many of them as it takes."""
    columns = max(1, ceil((end - start) / step))
    width = min(width, WIDEST)
    if columns > width:
        times = ceil(columns / width)
        if step == HOUR:
            times = next((n for n in PARTS if n >= times), 24 * ceil(times / 24))
        step *= times
        columns = ceil((end - start) / step)
    return Axis(start, step, columns, max(1, min(BROADEST, width // columns)), zone)


def draw(lanes: Sequence[Lane], along: Axis, screen: Console) -> Iterator[Text]:
    """Draw all lanes on one scale, the times and a legend below."""
    glyphs = PRETTY if can_draw("".join(PRETTY), screen) else PLAIN
    counted = [along.counts(lane.used) for lane in lanes]
    highest = max((max(counts) for counts in counted), default=0)
    for lane, counts in zip(lanes, counted, strict=True):
        together = "1 request" if sum(counts) == 1 else f"{sum(counts):,} requests"
        most = f", at most {max(counts):,} in {_span(along.step)}"
        yield Text.assemble((lane.name, "bold"), f"  {together}{most}")
        yield from _lane(lane, counts, highest, along, glyphs)
        yield Text("")
    yield _times(along)
    yield Text.assemble((glyphs.error, "red"), " errors   ", (glyphs.rest, "red"), " cooling down, or a limit used up")


def _span(step: timedelta) -> str:
    """Say what a column is."""
    unit, name = (DAY, "day") if step >= DAY and not step % DAY else (HOUR, "hour")
    count = round(step / unit)
    return {"day": "a day", "hour": "an hour"}[name] if count == 1 else f"{count} {name}s"


def _lane(lane: Lane, counts: list[int], highest: int, along: Axis, glyphs: Glyphs) -> Iterator[Text]:
    """Draw one provider: columns of requests, the line, heavy where it rested, and what failed below."""
    steps = len(glyphs.levels)
    heights = [ceil(count * HEIGHT * steps / highest) if highest else 0 for count in counts]
    for line in reversed(range(ceil(max(heights) / steps))):
        text = Text("", "cyan")
        for height in heights:
            level = min(steps, max(0, height - line * steps))
            text.append(_cell(glyphs.levels[level - 1] if level else " ", along))
        yield text
    spans = [(along.cell(since), along.cell(until)) for since, until in lane.resting]
    resting = {cell for first, last in spans for cell in range(first, last + 1)}
    base = Text("")
    for cell in range(along.columns * along.wide):
        base.append(*((glyphs.rest, "red") if cell in resting else (glyphs.line, "dim")))
    yield base
    failed = along.counts(lane.failed)
    if any(failed):
        yield Text("".join(_cell(glyphs.error if count else " ", along, once=True) for count in failed), "red")


def _cell(glyph: str, along: Axis, *, once: bool = False) -> str:
    """Draw a column's cells: with a gap where there is room for one."""
    if along.wide == 1:
        return glyph
    return (glyph if once else glyph * (along.wide - 1)).ljust(along.wide)


def _times(along: Axis) -> Text:
    """Name some of the times below the charts."""
    span = along.columns * along.step
    form = "%a %d %b" if span > 4 * DAY else "%a %H:%M" if span > DAY else "%H:%M"
    every = ceil(along.columns / min(TICKS, max(1, along.columns * along.wide // 12)))
    line = ""
    for column in range(0, along.columns, every):
        at = (along.start + column * along.step).astimezone(along.zone)
        line = line.ljust(column * along.wide) + f"{at:{form}}"
    return Text(line, "dim")
