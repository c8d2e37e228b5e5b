"""Start to the first answer, beside the least that a server with a state can be."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import servers
from benchmarks.grown import rows_of_history
from benchmarks.rounds import Rounds
from benchmarks.table import Row
from rlmd.client.connection import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PART = "start"
BARE = "bare trio and sqlite3"
ASK = b'{"op":"acquire","id":1,"provider":"anthropic","model":"claude-sonnet-4-5","dry_run":true}\n'
REPORTS = 199
"""As many as can be in the journal when a kill comes: from 200 on they are folded."""
MOST = 1.3


class Start(NamedTuple):
    """From the start of a process to its first answer."""

    seconds: float
    busy: float
    """Seconds in which it had a processor."""


def measure(*, short: bool) -> Iterator[Row]:
    """Start each of them again and again."""
    rounds, rows = (3, 20_000) if short else (25, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place:
        home = Path(place)
        full, killed = home / "full", home / "killed"
        prepared(full)
        rows_of_history(full / "state.db", rows)
        _kill(prepared(killed))
        contenders = {
            BARE: partial(_bare, home),
            "for the first time": partial(_first_time, home / "new"),
            "with a small state": partial(_first_answer, prepared(home / "small")),
            f"with {rows:,} rows of history": partial(_first_answer, full),
            f"after kill -9 with {REPORTS} reports not folded": partial(_after_kill, killed, home / "copy"),
        }
        found = Rounds(contenders, rounds)
    for what in list(contenders)[1:]:
        yield Row(
            part=PART,
            what=f"start {what}",
            ours=found.median(what, _ms),
            unit="ms",
            beside=BARE,
            theirs=found.median(BARE, _ms),
            ratio=found.ratio(what, BARE, _ms),
            most=MOST,
        )

    if sys.platform == "linux":
        for what in list(contenders)[1:]:
            yield Row(
                part=PART,
                what=f"processor time of it, {what}",
                ours=found.median(what, _busy_ms),
                unit="ms",
                beside=BARE,
                theirs=found.median(BARE, _busy_ms),
                ratio=found.ratio(what, BARE, _busy_ms),
                note="Processor time says more than the clock where others want the same cores.",
            )


def prepared(home: Path) -> Path:
    """Make a home with a configuration, in which a daemon has run once."""
    with servers.daemon(home):
        pass
    return home


def _kill(home: Path) -> None:
    """Leave there what a daemon leaves that is killed."""
    told = {"provider": "anthropic", "model": "claude-sonnet-4-5", "outcome": "ok", "status": 200}
    with servers.daemon(home) as daemon, Client(daemon.socket) as client:
        for number in range(REPORTS):
            lease = client.request("acquire", provider="anthropic", model=told["model"], session=f"{number % 5}")[
                "lease"
            ]
            client.request("report", lease=lease, usage={"input": 1200, "output": 300}, **told)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()


def _first_time(home: Path) -> Start:
    shutil.rmtree(home, ignore_errors=True)
    return _first_answer(home)


def _after_kill(killed: Path, copy: Path) -> Start:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(killed, copy, ignore=shutil.ignore_patterns("*.sock"))
    return _first_answer(copy)


def _first_answer(home: Path) -> Start:
    servers.configure(home)
    return _started([sys.executable, "-m", "rlmd"], home / "rlmd.sock", servers.environ(home))


def _bare(home: Path) -> Start:
    path, database = home / "bare.sock", home / "bare.db"
    path.unlink(missing_ok=True)
    return _started([sys.executable, servers.HERE / "bare.py", path, database], path, servers.environ(home))


def _started(command: Sequence[str | Path], path: Path, environ: dict[str, str]) -> Start:
    """Start a server and wait for its first answer."""
    core, _ = servers.cores()
    with servers.on_core(core):
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(OSError), closing(socket.socket(socket.AF_UNIX)) as peer:
                peer.connect(str(path))
                peer.sendall(ASK)
                if peer.recv(65536).startswith(b'{"type":"use"'):
                    return Start(time.perf_counter() - begun, _busy(process.pid))
            time.sleep(0.0005)
        raise RuntimeError(f"{command!r} ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def _busy(pid: int) -> float:
    if sys.platform != "linux":
        return 0.0
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[0]) / 1e9


def _ms(start: Start) -> float:
    return start.seconds * 1000


def _busy_ms(start: Start) -> float:
    return start.busy * 1000
