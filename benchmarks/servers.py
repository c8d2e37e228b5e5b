"""Starts what is measured, each server in a home of its own and on a core that is chosen for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds that a server may take to listen."""

CONFIG = """
[[provider]]
id = "anthropic"
priority = 1
models = ["claude-sonnet-4-5"]
hourly_limit = 100_000_000
daily_limit = 1_000_000_000

[[provider]]
id = "openrouter"
priority = 2
models = ["claude-sonnet-4-5"]
hourly_limit = 100_000_000
daily_limit = 1_000_000_000
"""
"""Two providers, each with an hourly and a daily limit that no benchmark reaches."""


class Server(NamedTuple):
    """A process and the socket at which it answers."""

    process: subprocess.Popen[bytes]
    socket: Path


def cores() -> tuple[int | None, int | None]:
    """Choose a core for servers, and another for clients that are not to share it; None where that cannot be said."""
    if sys.platform != "linux":
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Have this process, and what it starts in the meantime, run on that core only."""
    if sys.platform != "linux" or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(
    command: Sequence[str | Path], path: Path, environ: dict[str, str], core: int | None = None
) -> Iterator[Server]:
    """Run a server until the end of the block."""
    with on_core(core):
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_listening(path, process)
        yield Server(process, path)
    finally:
        process.terminate()
        process.wait()


def await_listening(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            return
        time.sleep(0.002)
    raise RuntimeError(f"nothing listens at {path}: {process.args!r} ended with {process.poll()}")


def environ(home: Path) -> dict[str, str]:
    """Return an environment in which all files of rlmd are in that directory."""
    return {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "RLMD_CONFIG": str(home / "config.toml"),
        "RLMD_STATE_DIR": str(home),
    }


def configure(home: Path, config: str = CONFIG) -> None:
    """Make a home for a daemon."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "config.toml").write_text(config, encoding="utf-8")


def daemon(home: Path, core: int | None = None, config: str = CONFIG) -> AbstractContextManager[Server]:
    """Run rlmd there until the end of the block."""
    configure(home, config)
    return serving([sys.executable, "-m", "rlmd"], home / "rlmd.sock", environ(home), core)


def yardstick(home: Path, core: int | None = None) -> AbstractContextManager[Server]:
    """Run the server that does nothing but answer until the end of the block."""
    path = home / "yardstick.sock"
    return serving([sys.executable, HERE / "yardstick.py", path], path, environ(home), core)
