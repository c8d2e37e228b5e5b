"""What a daemon costs that has nothing to do: wake-ups and memory."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import servers
from benchmarks.table import Row, UnavailableError
from rlmd.client.connection import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = "idle"
MOST_WAKEUPS = 2.0
MOST_MIB = 38.0
MOST_KIB = 8.0
CONNECTIONS = 500
SETTLE = 2.0
"""Seconds for what the first minute does only once."""


def measure(*, short: bool) -> Iterator[Row]:
    """Look at a daemon that has been used and is left alone, then at one with many agents that say nothing."""
    if sys.platform != "linux":
        raise UnavailableError("this is read from /proc, which is Linux")
    seconds = 5 if short else 120
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place, servers.daemon(Path(place)) as daemon:
        pid = daemon.process.pid
        with Client(daemon.socket, 60) as agent:
            _introduce(agent)
            agent.request("report", provider="anthropic", model="claude-sonnet-4-5", outcome="ok")
            agent.request("status")
            time.sleep(SETTLE)
            before = _wakeups(pid)
            time.sleep(seconds)
            woken = _wakeups(pid) - before
            # One wake-up in a short look says nothing of a minute.
            a_minute = woken * 60 / seconds if woken > 1 else float(woken)
            note = "An agent is connected, a report has been made, and an hour's window is open."
            yield Row(
                part=PART,
                what=f"wake-ups a minute, over {seconds} s",
                ours=a_minute,
                unit="",
                most=MOST_WAKEUPS,
                note=note,
            )
            before = resident(pid)
            yield Row(part=PART, what="memory", ours=before / 1024, unit="MiB", most=MOST_MIB, note=note)
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                _introduce(stack.enter_context(Client(daemon.socket, 60)))
            time.sleep(SETTLE)
            each = (resident(pid) - before) / CONNECTIONS
        yield Row(
            part=PART,
            what=f"memory for each of {CONNECTIONS} idle connections",
            ours=each,
            unit="KiB",
            most=MOST_KIB,
            note="Each connection has said who it is and has asked once.",
        )


def resident(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:"))


def _introduce(agent: Client) -> None:
    agent.request("hello", client="opencode", version="1.18.33", pid=4711, directory="/home/somebody/some-project")
    agent.request("acquire", provider="anthropic", model="claude-sonnet-4-5", dry_run=True)


def _wakeups(pid: int) -> int:
    """Count how often any thread of a process has gone to sleep of its own accord."""
    words = [
        line.split()
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text(encoding="utf-8").splitlines()
    ]
    return sum(int(line[1]) for line in words if line and line[0] == "voluntary_ctxt_switches:")
