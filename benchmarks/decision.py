"""What an acquire costs in a large world and in a small one: it must not depend on what is not asked for.

    python benchmarks/decision.py

Two ledgers in one process decide the same kind of request, for a model that two providers serve. One knows nothing
else; the other knows 1,000 providers, 10,000 names of models, and 500 sessions that ask in turn. Short rounds of both
follow each other, so that whatever else the machine does slows both. Exit code 1 where the medians differ by more
than 15 %.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC
from itertools import cycle, islice
from math import ceil
from statistics import median
from time import perf_counter

from rlmd.core.ledger import Ledger
from rlmd.core.model import Limit, Policy, Provider, ProviderModel, Use

ASKED = "claude-sonnet-4-5"
NOON = 1_768_219_200.0
"""2026-01-12 12:00 UTC: where the virtual clock starts, in epoch seconds."""
ROUNDS, CALLS = 400, 250
TOLERANCE = 0.15


class World:
    """A ledger that knows so many providers, names of models and sessions."""

    def __init__(self, providers: int, models: int, sessions: int) -> None:
        others = [f"model-{n}" for n in range(models - 1)]
        served = [[ASKED], [ASKED], *(others[n :: providers - 2] for n in range(providers - 2))]
        self.ledger = Ledger("benchmark")
        self.ledger.configure(Policy(tuple(_provider(n, names) for n, names in enumerate(served)), zone=UTC))
        self.name = f"providers: {providers:,}, models: {models:,}, sessions: {sessions:,}"
        self.sessions = cycle([f"session-{n}" for n in range(sessions)])
        self.now = NOON
        for _ in range(ceil(sessions / CALLS)):
            self.round()  # now each session has a turn under way

    def round(self) -> float:
        """Return the seconds that one acquire takes on average; the reports that follow are not counted."""
        acquire, now = self.ledger.acquire, self.now
        asking = list(islice(self.sessions, CALLS))
        begin = perf_counter()
        steps = [acquire("provider-0", ASKED, now, session=session) for session in asking]
        taken = perf_counter() - begin
        for step in steps:
            if not isinstance(step.reply, Use):
                raise TypeError(f"nobody served: {step.reply}")
            self.ledger.report(step.reply.provider, ASKED, "ok", now, rand=0.0, lease=step.reply.lease)
        self.now += 1.0
        return taken / CALLS


def _provider(number: int, models: list[str]) -> Provider:
    name = f"provider-{number}"
    limits = tuple(Limit("requests", 10**9, per, "calendar", UTC) for per in ("1h", "1d"))
    return Provider(name, number + 1, {model: ProviderModel(model) for model in models}, name, limits=limits)


def main() -> int:
    """Print the result as a row of a table and as JSON."""
    worlds = World(2, 1, 2), World(1000, 10_000, 500)
    rounds: tuple[list[float], list[float]] = [], []
    for number in range(ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            rounds[which].append(worlds[which].round())
    small, large = (median(taken) * 1e6 for taken in rounds)
    ratio = median(of_large / of_small for of_small, of_large in zip(*rounds, strict=True))
    python = platform.python_version()
    print(f"| Python | {worlds[0].name} | {worlds[1].name} | ratio |")
    print("|---|---|---|---|")
    print(f"| {python} | {small:.2f} µs | {large:.2f} µs | {ratio:.3f} |")
    figures = {"small_us": round(small, 2), "large_us": round(large, 2), "ratio": round(ratio, 3)}
    print(json.dumps({"python": python, **figures}))
    return 0 if abs(ratio - 1.0) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
