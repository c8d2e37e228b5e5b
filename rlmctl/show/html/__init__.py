"""`history --html`: one page with charts and tables of what was used. It needs no network and no other file.

The numbers are those of `history --json`: its reply is in the page as it is, and everything shown is worked out of it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.insight.forecast import gained
from rlmctl.insight.rests import MOST_EVENTS, rests
from rlmctl.insight.totals import add_up
from rlmctl.show.text import money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rlmctl.insight.totals import Sums

HERE = Path(__file__).parent
STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
WEEK = timedelta(days=8)
"""Below this the name of a day says which one it is."""
NUMBERS = ("requests", "tokens", "cost", "switches", "errors")
OPEN = 60
"""Rows that are shown without asking for them."""


def page(history: dict[str, Any], events: Sequence[dict[str, Any]], since: datetime, now: datetime) -> str:
    """Return the page of a history reply and the events of the same span."""
    rows = history["rows"]
    bucket = history["bucket"]
    starts = _starts(history, since, now)
    gain = gained(history, "in this time")
    parts = {
        "span": escape(f"{_date(starts[0], bucket)} to {_date(now, 'hour')}, by {bucket}"),
        "gain": f'<p class="gain">{escape(gain)}</p>' if gain else "",
        "sums": _sums(add_up(rows)),
        "tables": _tables(rows, bucket) if rows else "<h2>Nothing in this time</h2>",
        "footer": escape(
            f"Written by rlmctl history --html on {_date(now, 'hour')}; times are local.{_missing(events)}"
        ),
        "history": _embedded(history),
        "drawing": _embedded(_drawing(history, events, starts, now)),
        "script": (HERE / "charts.js").read_text("utf-8"),
    }
    text = (HERE / "page.html").read_text("utf-8")
    # The page of the parts, not their text, is searched: a provider may be called {{tables}}.
    first, *rest = text.split("{{")
    return first + "".join(parts[name] + after for name, _, after in (piece.partition("}}") for piece in rest))


def _starts(history: dict[str, Any], since: datetime, now: datetime) -> list[datetime]:
    """Return when the buckets of the span began: those without a row, too."""
    step = STEPS[history["bucket"]]
    if history["rows"]:
        start = datetime.fromisoformat(history["rows"][0]["at"]).astimezone()
    else:
        start = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    start -= (start - since) // step * step if start > since else timedelta()
    count = max(1, (now - start) // step + 1)
    return [start + n * step for n in range(count)]


def _drawing(
    history: dict[str, Any], events: Iterable[dict[str, Any]], starts: list[datetime], now: datetime
) -> dict[str, Any]:
    """Say how the rows lie on the axis of time, and what lies beside them."""
    bucket = history["bucket"]
    step = STEPS[bucket]
    # A local day may have 23 hours, and an hour half of one: the nearest start is its own, of two the later one.
    places = [(datetime.fromisoformat(row["at"]) - starts[0] + step / 2) // step for row in history["rows"]]
    resting = rests(events, now)
    names = {row["provider"] for row in history["rows"]} | {rest.provider for rest in resting}
    return {
        "buckets": [_bucket(start, bucket, starts) for start in starts],
        "places": [min(place, len(starts) - 1) for place in places],
        "providers": sorted(names),
        "rests": [
            {
                "provider": rest.provider,
                "since": rest.since.timestamp(),
                "until": rest.until.timestamp(),
                "span": f"{_date(rest.since, 'hour')} to {rest.until.astimezone():%H:%M}",
                "why": rest.why,
            }
            for rest in resting
        ],
        "start": starts[0].timestamp(),
        "end": (starts[-1] + step).timestamp(),
    }


def _date(at: datetime, bucket: str) -> str:
    # The middle of the bucket: the day is the person's even where this machine is in another zone.
    local = (at + timedelta(hours=12)).astimezone() if bucket == "day" else at.astimezone()
    return f"{local:%a} {local.day} {local:%b}" if bucket == "day" else f"{local:%a} {local.day} {local:%b %H:%M}"


def _bucket(at: datetime, bucket: str, starts: list[datetime]) -> dict[str, Any]:
    """Name a bucket, at length and below a chart, and say at which hour of the day it begins."""
    if bucket == "day":
        noon = (at + timedelta(hours=12)).astimezone()
        return {"long": _date(at, bucket), "short": f"{noon.day} {noon:%b}", "hour": 0}
    local = at.astimezone()
    day = f"{local:%a} {local.day}" if starts[-1] - starts[0] < WEEK else f"{local.day} {local:%b}"
    return {"long": _date(at, bucket), "short": f"{local:%H:%M}" if local.hour else day, "hour": local.hour}


def _sums(sums: Sums) -> str:
    told = {
        "Requests": f"{sums.requests:,}",
        "Tokens": f"{sums.tokens:,}",
        "Cost": money(sums.cost),
        "Errors": f"{sum(sums.errors.values()):,}",
        "Switches away": f"{sums.switches:,}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{number}</dd></div>" for name, number in told.items())


def _tables(rows: list[dict[str, Any]], bucket: str) -> str:
    each = _table(_row(row, bucket) for row in reversed(rows))
    return (
        f'<h2>By provider and model</h2><div class="scroll">{_together(rows)}</div><h2>By {bucket}</h2>'
        f"<details{' open' if len(rows) <= OPEN else ''}><summary>{len(rows):,} rows, newest first</summary>"
        f'<div class="scroll">{each}</div></details>'
    )


def _missing(events: Sequence[dict[str, Any]]) -> str:
    """Say from when on rests are known, where the log has more events than it tells at once."""
    if len(events) < MOST_EVENTS:
        return ""
    return f" When somebody rested is known from {_date(datetime.fromisoformat(events[0]['at']), 'hour')} on."


def _together(rows: list[dict[str, Any]]) -> str:
    def place(row: dict[str, Any]) -> tuple[str, str]:
        return row["provider"], row["model"]

    lines = [_cells([_where(*names)], add_up(list(own))) for names, own in groupby(sorted(rows, key=place), place)]
    lines.append(_cells(['<td class="where">together</td>'], add_up(rows), "all"))
    return _table(lines, when=False)


def _row(row: dict[str, Any], bucket: str) -> str:
    when = f'<td class="when">{escape(_date(datetime.fromisoformat(row["at"]), bucket))}</td>'
    return _cells([when, _where(row["provider"], row["model"])], add_up([row]))


def _where(provider: str, model: str) -> str:
    return f'<td class="where">{escape(provider)}<small>{escape(model)}</small></td>'


def _cells(first: list[str], sums: Sums, kind: str = "") -> str:
    errors = ", ".join(f"{count:,} {kind}" for kind, count in sums.errors.items())
    failed = f'{sum(sums.errors.values()):,}<small class="bad">{escape(errors)}</small>' if errors else "0"
    numbers = f"{sums.requests:,}", f"{sums.tokens:,}", money(sums.cost, exact=True), f"{sums.switches:,}", failed
    named = zip(NUMBERS, numbers, strict=True)
    cells = "".join(f'<td class="n" data-name="{name}">{number}</td>' for name, number in named)
    return f'<tr class="{kind}">{"".join(first)}{cells}</tr>'


def _table(lines: Iterable[str], *, when: bool = True) -> str:
    heads = "".join(f'<th class="n">{name}</th>' for name in NUMBERS)
    first = "<th>when</th>" if when else ""
    return f"<table><thead><tr>{first}<th>provider</th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _embedded(value: Any) -> str:
    """Write JSON so that nothing in it ends its element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
