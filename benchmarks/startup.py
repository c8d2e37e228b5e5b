"""A call of rlmctl as a whole process, beside a bare start of Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import servers
from benchmarks.rounds import Rounds
from benchmarks.table import Row
from rlmd.client.connection import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = "startup"
BARE = "python -c pass"
COMMANDS = {
    "status --plain": (["status", "--plain"], 4.0),
    "status --format": (["status", "--format", "{current} {left}"], 4.0),
    "status": (["status"], 10.0),
}
"""What is measured, by name: the arguments, and the most that its ratio may be."""
SCRIPT = Path(sys.executable).parent / "rlmctl"


def measure(*, short: bool) -> Iterator[Row]:
    """Call each command again and again, as a person or a prompt would: with nothing but HOME and PATH to go by."""
    with tempfile.TemporaryDirectory(prefix="rlmd-") as home, contextlib.ExitStack() as stack:
        environ = {"HOME": home, "PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        config, state = Path(home, ".config/rlmd"), Path(home, ".local/state/rlmd")
        config.mkdir(parents=True)
        state.mkdir(parents=True, mode=0o700)
        (config / "config.toml").write_text(servers.CONFIG)
        command = [sys.executable, "-m", "rlmd"]
        stack.enter_context(servers.serving(command, state / "rlmd.sock", environ))
        with Client(state / "rlmd.sock") as client:
            for _ in range(20):
                client.request("report", provider="anthropic", model="claude-sonnet-4-5", outcome="ok")
        calls = {name: [str(SCRIPT), *arguments] for name, (arguments, _) in COMMANDS.items()}
        calls[BARE] = [sys.executable, "-c", "pass"]
        contenders = {name: partial(_seconds, call, environ) for name, call in calls.items()}
        found = Rounds(contenders, 5 if short else 41)
    for name, (_, most) in COMMANDS.items():
        yield Row(
            part=PART,
            what=f"rlmctl {name}",
            ours=found.median(name, _ms),
            unit="ms",
            beside=BARE,
            theirs=found.median(BARE, _ms),
            ratio=found.ratio(name, BARE, _ms),
            most=most,
        )


def _seconds(command: list[str], environ: dict[str, str]) -> float:
    """Return the seconds from the start of a process to its end."""
    begun = time.perf_counter()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def _ms(seconds: float) -> float:
    return seconds * 1000
