"""Time to an answer, and answers a second, beside a server that decides nothing."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import servers
from benchmarks.load import Figures, Load, apply, note
from benchmarks.rounds import Rounds
from benchmarks.table import Row
from rlmd.client.connection import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PART = "latency"
ASK = (
    '{"op":"acquire","id":{n},"provider":"anthropic","model":"claude-sonnet-4-5",'
    '"session":"ses_5b1e7c3a9d550123-{c}","agent":"build","purpose":"step","estimate":1200}'
)
"""As long as what the yardstick of our ratios is to be asked: about 200 bytes."""
TELL = (
    '{"op":"report","id":{n},"lease":"{x}","provider":"anthropic","model":"claude-sonnet-4-5",'
    '"session":"ses_5b1e7c3a9d550123-{c}","outcome":"ok","status":200,"usage":{"input":1200,"output":300}}'
)
LEASE = '"lease":"'
YARDSTICK = "yardstick"
CLIENTS, DEEP, OPEN_RATE = 8, 16, 200.0


def measure(*, short: bool) -> Iterator[Row]:
    """Compare requests to the daemon with requests to the yardstick."""
    rounds, requests = (3, 1500) if short else (25, 4000)
    core, other = servers.cores()
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place:
        home = Path(place)
        with servers.daemon(home, core) as rlmd, servers.yardstick(home, core) as yardstick:
            run = partial(_rounds, rlmd.socket, yardstick.socket, rounds)
            yield from _one_client(run, requests, core)
            yield from _many_clients(run, requests, other)
            yield from _by_the_clock(run, 200 if short else 600, core, rounds=1 if short else 5)


def _one_client(run: Callable[..., Rounds[Figures]], requests: int, core: int | None) -> Iterator[Row]:
    """One client and the server share a core: the time is what both spend, and nobody waits for another core."""
    asked = Load((ASK,), requests)
    told = Load((ASK, TELL), 2 * requests, capture=LEASE)
    found = run(asked, {"acquire": asked, "pair": told}, core)
    row = partial(Row, part=PART, beside=YARDSTICK, note=note())
    for name, figure, most in (("p50", _p50, 1.3), ("p90", _p90, None), ("p99", _p99, 2.0), ("p99.9", _p999, None)):
        yield row(
            what=f"acquire, {name}",
            ours=found.median("acquire", figure),
            theirs=found.median(YARDSTICK, figure),
            ratio=found.ratio("acquire", YARDSTICK, figure),
            most=most,
        )
    for name, figure, other, most in (
        ("acquire and report with its commit, p50 per request", _p50_of_pair, _p50, 1.8),
        ("the report of it, p50", _p50_of_report, _p50, None),
        ("the report of it, p99", _p99_of_report, _p99, None),
    ):
        yield row(
            what=name,
            ours=found.median("pair", figure),
            theirs=found.median(YARDSTICK, other),
            ratio=found.ratio("pair", YARDSTICK, figure, other),
            most=most,
        )


def _many_clients(run: Callable[..., Rounds[Figures]], requests: int, core: int | None) -> Iterator[Row]:
    """The clients have a core of their own, so that the server is what is full."""
    for depth, least in ((1, None), (DEEP, 0.2)):
        count = requests * (8 if depth > 1 else 2)
        asked = Load((ASK,), count, CLIENTS, depth)
        told = Load((ASK,) * depth + (TELL,) * depth, count, CLIENTS, depth, capture=LEASE)
        found = run(asked, {"acquire": asked, "pair": told}, core)
        ahead = "" if depth == 1 else f", {depth} requests ahead"
        for name, what, lowest in (("acquire", "acquire", least), ("pair", "acquire and report", None)):
            yield Row(
                part=PART,
                what=f"{what}, {CLIENTS} clients{ahead}",
                ours=found.median(name, _rate),
                unit="/s",
                beside=YARDSTICK,
                theirs=found.median(YARDSTICK, _rate),
                ratio=found.ratio(name, YARDSTICK, _rate),
                least=lowest,
                note=note(),
            )


def _by_the_clock(run: Callable[..., Rounds[Figures]], requests: int, core: int | None, rounds: int) -> Iterator[Row]:
    """Requests come when they come; each round takes a few seconds, so there are fewer."""
    asked = Load((ASK,), requests, CLIENTS, rate=OPEN_RATE)
    told = Load((ASK, TELL), requests, CLIENTS, rate=OPEN_RATE, capture=LEASE)
    found = run(asked, {"acquire": asked, "pair": told}, core, rounds=rounds)
    for contender, what in (("acquire", "acquire"), ("pair", "acquire and report")):
        for name, figure in (("p50", _p50), ("p99", _p99)):
            yield Row(
                part=PART,
                what=f"{what}, {OPEN_RATE:g} a second by the clock, {name}",
                ours=found.median(contender, figure),
                beside=YARDSTICK,
                theirs=found.median(YARDSTICK, figure),
                ratio=found.ratio(contender, YARDSTICK, figure),
                note=note(),
            )


def _rounds(
    rlmd: Path, yardstick: Path, usual: int, asked: Load, loads: dict[str, Load], core: int | None, rounds: int = 0
) -> Rounds[Figures]:
    def ours(load: Load) -> Figures:
        found = apply(load, rlmd, core)
        with Client(rlmd, 60) as client:
            while client.request("status")["providers"][0]["in_flight"]:
                pass  # it lets go of all leases before anybody else's turn
        return found

    contenders = {name: partial(ours, load) for name, load in loads.items()}
    return Rounds({YARDSTICK: partial(apply, asked, yardstick, core), **contenders}, rounds or usual)


def _rate(found: Figures) -> float:
    return found.rate


def _p50(found: Figures) -> float:
    return found.all.p50


def _p90(found: Figures) -> float:
    return found.all.p90


def _p99(found: Figures) -> float:
    return found.all.p99


def _p999(found: Figures) -> float:
    return found.all.p999


def _p50_of_pair(found: Figures) -> float:
    """Half of what an acquire and a report take one after the other."""
    return (found.lines[0].p50 + found.lines[1].p50) / 2


def _p50_of_report(found: Figures) -> float:
    return found.lines[1].p50


def _p99_of_report(found: Figures) -> float:
    return found.lines[1].p99
