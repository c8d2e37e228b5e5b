"""The result of a simulation, for people and for scripts. It is given all that it shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from rlmctl.show.charts import HOUR, Lane, axis, draw
from rlmctl.show.terminal import console
from rlmctl.simulation.result import Row
from rlmd.config import durations
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from rlmctl.simulation.result import Hit, Result

COLUMNS = ("   served", "  refused", "  probes", "  in flight", "  failed", "   left")
"""Titles, as wide as their columns, of what a row counts, in its own order."""
SHOWN = 5
"""Of the times at which a limit was hit, so many are listed."""
HOW = {
    "configuration": "as configured, foreseen",
    "refusal": "refused, unforeseen",
    "probe": "refused, tried after a rest",
}


def as_json(result: Result) -> dict[str, Any]:
    """Return it for scripts: times in UTC, spans in milliseconds."""
    return {
        "requests": result.requests,
        "served": result.served,
        "given_up": result.given_up,
        "failed": result.failed,
        "unfinished": result.unfinished,
        "waited": {
            "requests": result.waited,
            "mean_ms": round(_mean_wait(result) * 1000),
            "longest_ms": round(result.waited_longest * 1000),
        },
        "providers": _providers(result.totals()),
        "hours": [
            {
                "at": rfc3339(hour.at),
                "waited": hour.waited,
                "given_up": hour.given_up,
                "providers": _providers(hour.providers),
            }
            for hour in result.hours
        ],
        "hits": [
            {**to_builtins(hit), "at": rfc3339(hit.at), "until": None if hit.until is None else rfc3339(hit.until)}
            for hit in result.hits
        ],
    }


def show(result: Result, zone: tzinfo) -> None:
    """Print it for people: a table, a picture of where the load went, what it adds up to; local times."""
    print(f"{table(result, zone)}\n")
    screen = console()
    start = _local(result.hours[0].at, zone)
    along = axis(start, start + len(result.hours) * HOUR, HOUR, screen.width, zone)
    for line in draw(lanes(result, zone), along, screen):
        screen.print(line)
    print(f"\n{ending(result, zone)}")


def table(result: Result, zone: tzinfo) -> str:
    """Return what came of the requests by hour and provider; local times."""
    totals = result.totals()
    width = max(map(len, ["provider", *totals]))
    lines = [f"{'hour':<9}  {'provider':<{width}}{''.join(COLUMNS)}"]
    for hour in result.hours:
        lines += _rows(f"{_local(hour.at, zone):%a %H:%M}", hour.providers, width)
    return "\n".join([*lines, *_rows("together", totals, width)])


def lanes(result: Result, zone: tzinfo) -> list[Lane]:
    """Return where the load went, to be drawn: served, refused, and the rests that limits led to."""
    drawn = []
    for provider in sorted(result.totals()):
        hours = [(_local(hour.at, zone), hour.providers.get(provider, Row())) for hour in result.hours]
        missed = [(at, row.refused + row.refused_probe + row.refused_in_flight + row.failed) for at, row in hours]
        hits = [(hit.at, hit.until) for hit in result.hits if hit.provider == provider]
        rested = [(_local(at, zone), _local(until, zone)) for at, until in hits if until is not None]
        drawn.append(Lane(provider, [(at, row.served) for at, row in hours], missed, rested))
    return drawn


def ending(result: Result, zone: tzinfo) -> str:
    """Return what it adds up to: how the requests ended, what waited, which limits were hit."""
    ends = {"served": result.served, "given up": result.given_up, "failed": result.failed}
    ends["unfinished at the end"] = result.unfinished
    lines = [f"{result.requests:,} requests: " + ", ".join(f"{count:,} {end}" for end, count in ends.items())]
    if result.waited:
        mean, longest = (durations.show(round(span)) for span in (_mean_wait(result), result.waited_longest))
        lines.append(f"had to wait: {result.waited:,} of those served, {mean} on average, {longest} at most")
    return "\n".join([*lines, *_limits(result.hits, zone)])


def _mean_wait(result: Result) -> float:
    return result.waited_seconds / max(1, result.waited)


def _providers(rows: dict[str, Row]) -> list[dict[str, Any]]:
    return [{"id": provider, **to_builtins(row)} for provider, row in sorted(rows.items())]


def _rows(title: str, rows: dict[str, Row], width: int) -> Iterable[str]:
    for place, (provider, row) in enumerate(sorted(rows.items())):
        counts = zip(COLUMNS, to_builtins(row).values(), strict=True)
        cells = "".join(f"{count:>{len(column)},}" for column, count in counts)
        yield f"{title if place == 0 else '':<9}  {provider:<{width}}{cells}"


def _limits(hits: list[Hit], zone: tzinfo) -> Iterable[str]:
    """Say of each limit how often it was hit in each way, and when first."""
    found: dict[tuple[str, str, str], list[Hit]] = {}
    for hit in hits:
        found.setdefault((hit.provider, hit.limit, hit.by), []).append(hit)
    for (provider, limit, by), times in sorted(found.items()):
        listed = ", ".join(f"{_local(hit.at, zone):%a %H:%M:%S}" for hit in times[:SHOWN])
        often = "once" if len(times) == 1 else f"{len(times):,} times"
        more = ", …" if len(times) > SHOWN else ""
        yield f"\n{provider}, {limit}: {HOW[by]}, {often}\n  {listed}{more}"


def _local(at: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at, zone)
