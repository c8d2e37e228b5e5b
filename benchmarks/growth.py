"""What a request costs in a large world, beside the same in a small one."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC
from functools import partial
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

from benchmarks import servers
from benchmarks.grown import ASKED, config, names_served, rows_of_history
from benchmarks.idle import resident
from benchmarks.latency import ASK, LEASE, TELL
from benchmarks.load import Figures, Load, apply, note
from benchmarks.rounds import Rounds
from benchmarks.table import Row
from rlmd.client.connection import Client
from rlmd.core.ledger import Ledger
from rlmd.core.model import Limit, Policy, Provider, ProviderModel, Use
from rlmd.core.requests import Acquire, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = "growth"
PROVIDERS, MODELS, SESSIONS, IDLE = 1000, 10_000, 500, 500
MOST = 1.15
SMALL = "a small world"
NOON = 1_768_219_200.0
"""2026-01-12 12:00 UTC: where the virtual clock starts, in epoch seconds."""
CALLS = 250
"""Decisions in one round of the core."""


def measure(*, short: bool) -> Iterator[Row]:
    """Compare daemons over their sockets, then the core alone, then one daemon with and without a long query."""
    rounds, requests, rows = (3, 1000, 20_000) if short else (25, 3000, 1_000_000)
    core, _ = servers.cores()
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place, ExitStack() as stack:
        home = Path(place)
        daemons = _daemons(home, stack, core, rows)
        loads = {"acquire": Load((ASK,), requests), "acquire and report": Load((ASK, TELL), requests, capture=LEASE)}
        for asked, load in loads.items():
            found = Rounds(
                {name: partial(apply, load, daemon.socket, core) for name, daemon in daemons.items()}, rounds
            )
            for name in list(daemons)[1:]:
                yield Row(
                    part=PART,
                    what=f"{asked}, {name}, p50",
                    ours=found.median(name, _p50),
                    beside=SMALL,
                    theirs=found.median(SMALL, _p50),
                    ratio=found.ratio(name, SMALL, _p50),
                    most=MOST,
                    note=note(),
                )
        if sys.platform == "linux":
            old, small = (resident(daemons[name].process.pid) / 1024 for name in (f"{rows:,} rows of history", SMALL))
            what = f"memory, {rows:,} rows of history"
            yield Row(part=PART, what=what, ours=old, unit="MiB", beside=SMALL, theirs=small, ratio=old / small)
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place:
        yield from _while_read(Path(place), rows, rounds=rounds, calls=requests)
    yield _decision(rounds=30 if short else 400)


def _daemons(home: Path, stack: ExitStack, core: int | None, rows: int) -> dict[str, servers.Server]:
    """Run a small daemon, one that is large in each respect, and one that is in all."""

    def run(
        name: str, providers: int = 2, models: int = 1, sessions: int = 0, rows: int = 0, idle: int = 0
    ) -> servers.Server:
        place, text = home / name, config(providers, models)
        if rows:
            with servers.daemon(place, config=text):
                pass
            rows_of_history(place / "state.db", rows)
        daemon = stack.enter_context(servers.daemon(place, core, text))
        with Client(daemon.socket, 60) as agent:
            target = {"provider": "anthropic", "model": ASKED}
            for number in range(sessions):
                lease = agent.request("acquire", session=f"before-{number}", **target)["lease"]
                agent.request("report", outcome="ok", lease=lease, **target)
        for _ in range(idle):
            stack.enter_context(Client(daemon.socket, 60)).request("hello", client="opencode", version="1.18.33")
        return daemon

    return {
        SMALL: run("small"),
        f"{PROVIDERS:,} providers and {MODELS:,} models": run("wide", PROVIDERS, MODELS),
        f"{SESSIONS} sessions": run("busy", sessions=SESSIONS),
        f"{rows:,} rows of history": run("old", rows=rows),
        f"{IDLE} idle connections": run("crowded", idle=IDLE),
        "all of these": run("all", PROVIDERS, MODELS, SESSIONS, rows, IDLE),
    }


def _while_read(home: Path, rows: int, *, rounds: int, calls: int) -> Iterator[Row]:
    """Ask for decisions while somebody asks for all of the history, again and again; the query has a core to use."""
    with servers.daemon(home):
        pass
    rows_of_history(home / "state.db", rows)
    with servers.daemon(home) as daemon:

        def alone() -> float:
            with Client(daemon.socket, 60) as client:
                return _p99_of_acquires(client, calls)

        def beside() -> float:
            with Client(daemon.socket, 60) as client, _asking(daemon.socket):
                return _p99_of_acquires(client, calls)

        found = Rounds({"alone": alone, "beside": beside}, rounds)
    yield Row(
        part=PART,
        what=f"acquire while all of {rows:,} rows of history are read, p99",
        ours=found.median("beside", _itself),
        beside="nobody reads",
        theirs=found.median("alone", _itself),
        ratio=found.ratio("beside", "alone", _itself),
        note="While history is read, nothing is bound to a core, and the client is Python's.",
    )


@contextmanager
def _asking(socket: Path) -> Iterator[None]:
    enough = threading.Event()

    def ask() -> None:
        with Client(socket, 60) as other:
            while not enough.is_set():
                other.request("history", bucket="day")

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.05)  # until a query is under way
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _p99_of_acquires(client: Client, calls: int) -> float:
    """Return microseconds."""
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        client.request("acquire", provider="anthropic", model=ASKED, dry_run=True)
        taken.append(time.perf_counter() - begun)
    return quantiles(taken, n=100)[98] * 1e6


class _World:
    """A ledger that knows so many providers, names of models and sessions."""

    def __init__(self, providers: int, models: int, sessions: int) -> None:
        served = names_served(providers, models)
        self.ledger = Ledger("benchmark")
        self.ledger.configure(Policy(tuple(_provider(n, names) for n, names in enumerate(served)), zone=UTC), NOON)
        self.sessions = cycle([f"session-{n}" for n in range(sessions)])
        self.now = NOON
        for _ in range(ceil(sessions / CALLS)):
            self.round()  # now each session has a turn under way

    def round(self) -> float:
        """Return the microseconds of an acquire on average; the reports that follow are not counted."""
        acquire, now = self.ledger.acquire, self.now
        asking = list(islice(self.sessions, CALLS))
        begun = time.perf_counter()
        steps = [acquire(Acquire("provider-0", ASKED, session), now) for session in asking]
        taken = time.perf_counter() - begun
        for step in steps:
            if not isinstance(step.reply, Use):
                raise TypeError(f"nobody served: {step.reply}")
            self.ledger.report(Report(step.reply.provider, ASKED, "ok", step.reply.lease), now, rand=0.0)
        self.now += 1.0
        return taken / CALLS * 1e6


def _provider(number: int, models: list[str]) -> Provider:
    name = f"provider-{number}"
    limits = tuple(Limit("requests", 10**9, per, "calendar", UTC) for per in ("1h", "1d"))
    return Provider(name, number + 1, {model: ProviderModel(model) for model in models}, name, limits=limits)


def _decision(*, rounds: int) -> Row:
    """Compare two ledgers in this process, without a socket, a disk or a clock."""
    small, large = _World(2, 1, 2), _World(PROVIDERS, MODELS, SESSIONS)
    found = Rounds({SMALL: small.round, "large": large.round}, rounds)
    return Row(
        part=PART,
        what=f"the decision alone, {PROVIDERS:,} providers, {MODELS:,} models, {SESSIONS} sessions",
        ours=found.median("large", _itself),
        beside=SMALL,
        theirs=found.median(SMALL, _itself),
        ratio=found.ratio("large", SMALL, _itself),
        most=MOST,
    )


def _p50(found: Figures) -> float:
    return found.all.p50


def _itself(figure: float) -> float:
    return figure
