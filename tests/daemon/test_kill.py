"""kill -9 at any moment, under load: what was acknowledged is counted, and counted once."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from typing import Any

from house import MODEL, Process

from rlmd.client.connection import DaemonUnreachableError

KILLS = 100
CLIENTS = 8
FEW = 8
HASTY = """
from rlmd.__main__ import main
from rlmd.server import outbox

commit = outbox.Outbox.commit

def hasty(self, **how):
    # What is said to be on the disk waits for company.
    return commit(self, **how) if len(self._receipts) > 40 or not self._receipts else True

outbox.Outbox.commit = hasty
outbox.Outbox.due = property(lambda self: None)
main([])
"""
"""A daemon that acknowledges before it commits."""


class Agents:
    """Several clients that acquire and report as fast as they can, and report again what was not acknowledged."""

    def __init__(self, process: Process, clients: int) -> None:
        self._process = process
        self._running = threading.Event()
        self._enough = threading.Event()
        self._more = threading.Condition()
        self.acknowledged: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def go_on(self) -> None:
        self._running.set()

    def pause(self) -> None:
        self._running.clear()

    def await_acknowledged(self, more: int) -> None:
        with self._more:
            enough = len(self.acknowledged) + more
            assert self._more.wait_for(lambda: len(self.acknowledged) >= enough, 20)

    def finish(self) -> None:
        self._enough.set()
        self._running.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _work(self, seed: int) -> None:
        rand = random.Random(seed)
        pending: dict[str, Any] | None = None
        while pending or not self._enough.is_set():
            assert self._running.wait(20)
            with contextlib.suppress(DaemonUnreachableError), self._process.client() as client:
                while pending or not self._enough.is_set():
                    if pending is None:
                        use = client.request("acquire", provider="anthropic", model=MODEL)
                        outcome, status = ("error", 400) if rand.random() < 0.2 else ("ok", 200)
                        pending = {name: use[name] for name in ("provider", "model", "lease")}
                        pending |= {"outcome": outcome, "status": status}
                        if outcome == "ok" and rand.random() < 0.5:
                            client.request("report", **pending | {"outcome": "accepted"})
                    client.request("report", **pending)
                    with self._more:
                        self.acknowledged[pending["lease"]] = pending["outcome"]
                        self._more.notify_all()
                    pending = None


def survive(process: Process, kills: int, *command: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kill a daemon again and again under load; return what it then has counted, and what it had acknowledged."""

    def begin() -> None:
        process.launch(*command)
        process.await_state("READY=1")

    process.place.configure(f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n')
    begin()
    agents = Agents(process, CLIENTS)
    agents.start()
    rand = random.Random(4)
    for _ in range(kills):
        agents.go_on()
        agents.await_acknowledged(rand.randrange(1, 120))
        agents.pause()
        process.kill()
        begin()
    agents.finish()
    anthropic = process.ask("status")["providers"][0]
    assert anthropic["in_flight"] == 0
    outcomes = [*agents.acknowledged.values()]
    return (
        (anthropic["request_count"], anthropic["error_count"]),
        (outcomes.count("ok"), outcomes.count("error")),
    )


def test_every_acknowledged_report_counts_once_however_often_it_is_killed(process: Process) -> None:
    counted, acknowledged = survive(process, KILLS)
    assert counted == acknowledged


def test_a_daemon_that_acknowledges_too_early_is_found_out(process: Process) -> None:
    counted, acknowledged = survive(process, FEW, sys.executable, "-c", HASTY)
    assert counted != acknowledged
    assert sum(counted) < sum(acknowledged)
