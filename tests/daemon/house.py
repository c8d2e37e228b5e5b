"""A daemon on a real socket: in this process, on a clock that the test holds; or `python -m rlmd` in one of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from rlmd.client.connection import Client
from rlmd.daemon import Daemon
from rlmd.paths import Paths, resolve
from rlmd.server import listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_768_219_200.0
"""2026-01-12 12:00:00 UTC, a Monday: the start of an hour."""
MODEL = "sonnet"
THEIRS = "anthropic/sonnet"
"""What openrouter calls it."""
SETTINGS = """\
time_zone = "UTC"
patience = "0s"
"""
ANTHROPIC = """\
[[provider]]
id = "anthropic"
priority = 1
models = ["sonnet"]
hourly_limit = 50
daily_limit = 1000
"""
OPENROUTER = """\
[[provider]]
id = "openrouter"
priority = 2
hourly_limit = 100
[provider.models]
sonnet = "anthropic/sonnet"
"""
TWO = f"{SETTINGS}{ANTHROPIC}{OPENROUTER}"
_numbers = itertools.count()
SOON = 20.0
"""Real seconds in which another process has to do what is awaited of it; it takes a fraction of one."""


def virtually(main: Any, *arguments: Any, clock: Any = None, instruments: Any = ()) -> Any:
    """Run on virtual time: where all are waiting for a time, it is that time. No threads there."""
    return trio.run(
        main, *arguments, clock=clock or trio.testing.MockClock(autojump_threshold=0), instruments=instruments
    )


class Place:
    """Directories of a person who owns nothing else, with a configuration of two providers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            "HOME": str(root),
            "PATH": os.defpath,
            "TZ": "UTC",
            "RLMD_CONFIG": str(root / "config.toml"),
            "RLMD_STATE_DIR": str(root / "state"),
        }
        self.configure(TWO)

    @property
    def paths(self) -> Paths:
        return resolve(self.environ)

    def configure(self, text: str) -> None:
        self.paths.config.write_text(text, encoding="utf-8")


class Peer:
    """One connection of somebody who speaks the protocol by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._sent = 0
        self._rest = b""

    async def say(self, *messages: dict[str, Any] | bytes) -> None:
        """Send messages, or bytes as they are, in one chunk."""
        chunk = b"".join(m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages)
        await self.stream.send_all(chunk)

    async def hear(self, within: float = 2) -> Any:
        """Read one message."""
        with trio.fail_after(within):
            while b"\n" not in self._rest:
                more = await self.stream.receive_some(65536)
                assert more, f"the connection ended after {self._rest!r}"
                self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    async def ask(self, op: str, **fields: Any) -> Any:
        """Send one request and read its reply, whose id is checked and taken off."""
        self._sent += 1
        await self.say({"op": op, "id": self._sent, **fields})
        reply = await self.hear()
        assert reply.pop("id", "none") == self._sent, reply
        return reply

    async def use(self, **fields: Any) -> Any:
        """Acquire, and get a place."""
        reply = await self.ask("acquire", **{"provider": "anthropic", "model": MODEL, **fields})
        assert reply["type"] == "use", reply
        return reply

    async def report(self, use: Any, outcome: str = "ok", **fields: Any) -> Any:
        """Report the outcome of what an acquire gave."""
        given = {name: use[name] for name in ("provider", "model", "lease") if name in use}
        reply = await self.ask("report", outcome=outcome, **given, **fields)
        assert reply["type"] == "recorded", reply
        return reply

    async def refuse(self, use: Any, after: float = 60, **fields: Any) -> Any:
        """Report that the provider answered 429 with a wait in seconds."""
        return await self.report(use, "error", status=429, headers={"retry-after": str(after)}, **fields)

    async def provider(self, name: str = "anthropic") -> Any:
        """Look up what status says of a provider."""
        status = await self.ask("status")
        return next(p for p in status["providers"] if p["id"] == name)

    async def used(self, name: str = "anthropic") -> tuple[int, int]:
        """Look up what is used and reserved of a provider's first limit."""
        limit = (await self.provider(name))["limits"][0]
        return limit["used"], limit["reserved"]

    async def ended(self) -> bool:
        """Wait for the end of the connection; whether nothing came before it."""
        with trio.fail_after(10):
            try:
                return not self._rest and not await self.stream.receive_some(1)
            except trio.BrokenResourceError:
                return True


class House:
    """One daemon in this process."""

    def __init__(self, place: Place, nursery: trio.Nursery) -> None:
        self.place = place
        self.stepped = 0.0
        """What somebody did to the machine's clock."""
        self._nursery = nursery
        self._peers: list[Peer] = []

    def now(self) -> float:
        return NOON + self.stepped + trio.current_time()

    def begin(self) -> None:
        self.place.paths.state_dir.mkdir(mode=0o700, exist_ok=True)
        self.daemon = Daemon(self.place.paths, self.place.environ, self.now)
        no_jitter: Any = SimpleNamespace(random=lambda: 0.0)
        self.daemon.server._dispatch._random = no_jitter
        self.stopped = trio.Event()
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._run, listener.listen(self.place.paths.socket))

    async def _run(self, accepting: listener.Listener) -> None:
        try:
            with self._scope:
                await self.daemon.run(accepting)
        finally:
            accepting.socket.close()
        self.stopped.set()

    async def end(self) -> None:
        for peer in self._peers:
            await peer.stream.aclose()
        self._peers.clear()
        self.daemon.shutdown()
        await self.stopped.wait()

    async def restart(self) -> None:
        await self.end()
        self.begin()

    async def kill(self) -> None:
        """Die as of kill -9, and come back to the files as they were at that moment."""
        before = self.place.paths.state_dir
        after = self.place.root / f"state{next(_numbers)}"
        shutil.copytree(before, after, ignore=lambda _, names: [n for n in names if not n.startswith("state.db")])
        self._scope.cancel()
        await self.stopped.wait()
        self.daemon._store._db.close()
        for peer in self._peers:
            await peer.stream.aclose()
        self._peers.clear()
        shutil.rmtree(before)
        self.place.environ["RLMD_STATE_DIR"] = str(after)
        self.begin()

    @contextlib.contextmanager
    def commits_paused(self) -> Iterator[None]:
        """Have commits wait, as they do while a checkpoint truncates the log."""
        self.daemon._store.paused = True
        try:
            yield
        finally:
            self.daemon._store.paused = False
            self.daemon.server.commits_resumed()

    async def peer(self) -> Peer:
        peer = Peer(trio.SocketStream(trio.socket.socket(socket.AF_UNIX)))
        await peer.stream.socket.connect(str(self.place.paths.socket))
        self._peers.append(peer)
        return peer

    async def connections(self) -> int:
        """Count those who are connected, once everyone has done what there was to do."""
        await self.settled()
        return len(self.daemon.server._connections)

    async def settled(self) -> None:
        """Let everyone do what there is to do."""
        await trio.testing.wait_all_tasks_blocked()


class Process:
    """`python -m rlmd` at a place, and what it told the service manager and the log."""

    def __init__(self, place: Place, **environ: str) -> None:
        self.place = place
        self.log = place.root / "log"
        self.environ = place.environ | environ
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = place.root / f"notify{next(_numbers)}"
        self._manager.bind(str(address))
        self.environ.setdefault("NOTIFY_SOCKET", str(address))

    def launch(self, *command: str) -> None:
        command = command or (sys.executable, "-m", "rlmd")
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(command, env=self.environ, cwd=self.place.root, stdout=log, stderr=log)

    def begin(self) -> Process:
        self.launch()
        self.await_state("READY=1")
        return self

    def hears(self, state: str) -> str | None:
        """Wait for a message to the service manager that has this line; None where the process ends without it."""
        self._manager.settimeout(0.05)
        until = time.monotonic() + SOON
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                message = self._manager.recv(4096).decode()
                if state in message.split("\n"):
                    return message
                continue
            if self.popen.poll() is not None:
                return None
        raise AssertionError(f"no {state}: {self.log.read_text()}")

    def await_state(self, state: str) -> str:
        """Wait for a message to the service manager that has this line; return the whole message."""
        message = self.hears(state)
        assert message is not None, self.log.read_text()
        return message

    def await_path(self, path: Path) -> None:
        """Wait for a file."""
        until = time.monotonic() + SOON
        while not path.exists():
            assert self.popen.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.01)

    def client(self) -> Client:
        return Client(self.place.paths.socket, SOON)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        with self.client() as client:
            return client.request(op, **fields)

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def exits(self) -> int:
        """Wait for the end and return the exit code."""
        return self.popen.wait(SOON)

    def kill(self) -> None:
        """End it as a crash does: it learns nothing of it."""
        self.send(signal.SIGKILL)
        self.exits()

    def close(self) -> None:
        if hasattr(self, "popen"):
            self.popen.kill()
            self.popen.wait()
        self._manager.close()
