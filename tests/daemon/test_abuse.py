"""Peers that do what nobody should, against a real daemon. Others are answered meanwhile and afterwards; then nothing
of the peer is left: no descriptor, no memory to speak of, and every report that was acknowledged is counted once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from house import MODEL, SOON, TWO, Process

from rlmd.client.connection import DaemonRefusedError
from rlmd.server.capacity import CONNECTIONS, DESCRIPTORS
from rlmd.store.history import HISTORIES
from rlmd.wire.codec import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

ANTHROPIC = {"provider": "anthropic", "model": MODEL}
PING = b'{"op":"ping","id":1}\n'
REPORT = b'{"op":"report","id":1,"provider":"anthropic","model":"sonnet","outcome":"ok"%s}\n'
MIB = 2**20
GROWTH = 20 * MIB
"""What a daemon may have kept of an abuse: parts of pages that its allocator could not give back."""
KEPT_OPEN = HISTORIES + 1
"""Descriptors that SQLite may keep for the next connection to the database."""


class Crowd:
    """Connections of one abuser; the limit of open files is raised for as many as it wants."""

    def __init__(self, process: Process, stack: ExitStack) -> None:
        self._path = str(process.place.paths.socket)
        self._stack = stack

    def peer(self) -> socket.socket:
        peer = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        peer.settimeout(SOON)
        peer.connect(self._path)
        return peer

    def peers(self, number: int) -> list[socket.socket]:
        return [self.peer() for _ in range(number)]


def hears(peer: socket.socket) -> Any:
    """Read one message, byte by byte: nothing behind it is taken."""
    line = b""
    while not line.endswith(b"\n"):
        byte = peer.recv(1)
        assert byte, f"the connection ended after {line!r}"
        line += byte
    return json.loads(line)


def has_ended(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1)
    except ConnectionResetError:
        return True


def fill(peer: socket.socket, data: bytes) -> int:
    """Send as much as goes without waiting for long; how much that was."""
    peer.settimeout(0.2)
    sent = 0
    try:
        while True:
            sent += peer.send(data)
    except TimeoutError:
        return sent


@pytest.fixture
def daemon(process: Process) -> Process:
    """A daemon that has done a little of everything before, so that what it holds is what it needs."""
    process.place.configure(TWO.replace("50", "1_000_000").replace("1000", "1_000_000"))
    process.begin()
    with process.client() as client:
        for n in range(300):
            use = client.request("acquire", **ANTHROPIC, session=str(n))
            client.request("report", **{k: use[k] for k in ("provider", "model", "lease")}, outcome="ok")
        for op in ("status", "log", "history", "reset"):
            client.request(op)
    return process


def in_use(process: Process) -> tuple[int, int]:
    """How many descriptors and bytes a daemon holds."""
    it = psutil.Process(process.popen.pid)
    return it.num_fds(), it.memory_info().rss


def counted(process: Process) -> int:
    provider: dict[str, int] = process.ask("status")["providers"][0]
    return provider["request_count"]


def await_answer(process: Process) -> None:
    """Ask until a connection that has just been closed has made room."""
    until = time.monotonic() + SOON
    while True:
        try:
            process.ask("ping")
        except DaemonRefusedError:
            assert time.monotonic() < until
        else:
            return


@contextmanager
def abused(process: Process) -> Iterator[Crowd]:
    """Abuse a daemon; afterwards everything is as it was."""
    descriptors, memory = in_use(process)
    with ExitStack() as stack:
        yield Crowd(process, stack)
        await_answer(process)
    until = time.monotonic() + SOON
    while (now := in_use(process))[0] > descriptors + KEPT_OPEN or now[1] > memory + GROWTH:
        assert time.monotonic() < until, f"{now} instead of {descriptors, memory}"
        time.sleep(0.05)
    assert process.ask("acquire", **ANTHROPIC, dry_run=True)["type"] == "use"
    assert "please report this" not in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


@pytest.fixture
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < most:
        pytest.skip(f"the system allows no more than {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
def test_a_thousand_connections_and_some_too_many(daemon: Process) -> None:
    with abused(daemon) as crowd:
        peers = crowd.peers(1000)
        for peer in peers:
            peer.sendall(PING)
        assert all(hears(peer)["type"] == "pong" for peer in peers)
        assert counted(daemon) == 0
        for peer in crowd.peers(CONNECTIONS - 1000):
            peer.sendall(PING)
            assert hears(peer)["type"] == "pong"
        for peer in crowd.peers(700):
            answer = hears(peer)
            assert (answer["type"], answer["code"]) == ("error", "unavailable")
            assert has_ended(peer)
        with pytest.raises(DaemonRefusedError, match="rlmd serves 1024 connections already: close one"):
            daemon.ask("ping")
        for peer in peers[:500]:
            peer.sendall(PING)
        assert all(hears(peer)["type"] == "pong" for peer in peers[:500])
        peers.pop().close()


@pytest.mark.usefixtures("_many_files")
def test_a_daemon_that_may_open_few_files(daemon: Process) -> None:
    few = 80
    assert few < DESCRIPTORS
    daemon.kill()
    daemon.launch("sh", "-c", f"ulimit -n {few}; exec {sys.executable} -m rlmd")
    daemon.await_state("READY=1")
    with abused(daemon) as crowd:
        peers = crowd.peers(40)
        for peer in peers:
            peer.sendall(PING)
        answers = [hears(peer) for peer in peers]
        assert [a["type"] for a in answers] == ["pong"] * 20 + ["error"] * 20
        assert [a["code"] for a in answers[20:]] == ["unavailable"] * 20
        peers[0].sendall(REPORT % b"")
        assert hears(peers[0])["type"] == "recorded"
        peers[0].sendall(b'{"op":"history"}\n')
        assert hears(peers[0])["type"] == "history"
        for peer in peers:
            peer.close()


@pytest.mark.usefixtures("_many_files")
def test_a_daemon_that_may_open_no_more_files_at_all_waits_for_one(daemon: Process) -> None:
    with ExitStack() as stack:
        crowd = Crowd(daemon, stack)
        peers = crowd.peers(10)
        peers[0].sendall(PING)
        assert hears(peers[0])["type"] == "pong"
        pid, open_now = daemon.popen.pid, in_use(daemon)[0]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, open_now + 100))
        more = crowd.peers(20)
        more[-1].sendall(PING)
        before = psutil.Process(pid).cpu_times()
        time.sleep(1)
        after = psutil.Process(pid).cpu_times()
        assert after.user + after.system - before.user - before.system < 0.5, "it does not spin"
        peers[0].sendall(REPORT % b"")
        assert hears(peers[0])["type"] == "recorded", "who is connected is served"
        assert daemon.log.read_text().count("nobody else can connect now") == 1
        for peer in peers + more[:-1]:
            peer.close()
        assert hears(more[-1])["type"] == "pong"
        crowd.peers(40)
        time.sleep(1)
        assert in_use(daemon)[0] == open_now, "all that it may"
        assert daemon.log.read_text().count("nobody else can connect now") == 1, "not each time anew"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 100, open_now + 100))
    assert counted(daemon) == 1


def test_peers_that_never_read(daemon: Process) -> None:
    with abused(daemon) as crowd:
        for op in (b'{"op":"status"}\n', b'{"op":"log"}\n', b'{"op":"history"}\n', REPORT % b"", b"\n"):
            for peer in crowd.peers(5):
                assert fill(peer, op * 4000) < 2 * MIB, "nothing more is read of it"
        assert in_use(daemon)[1] < 300 * MIB
        busy = psutil.Process(daemon.popen.pid).cpu_times().user
        time.sleep(0.5)
        assert psutil.Process(daemon.popen.pid).cpu_times().user - busy < 0.2, "it does not spin"
        for _ in range(20):
            assert daemon.ask("acquire", **ANTHROPIC, dry_run=True)["type"] == "use"


def test_a_subscriber_that_never_reads(daemon: Process) -> None:
    with abused(daemon) as crowd:
        for peer in crowd.peers(20):
            peer.sendall(b'{"op":"subscribe"}\n')
        with daemon.client() as client:
            for _ in range(5000):
                client.request("disable", provider="anthropic")
            client.request("enable", provider="anthropic")


@pytest.mark.usefixtures("_many_files")
def test_lines_that_never_end(daemon: Process) -> None:
    with abused(daemon) as crowd:
        for n, peer in enumerate(crowd.peers(200)):
            peer.sendall(b'{"op":"ping","x":"' + b"x" * (n * 1000))
            if n % 20 == 0:
                daemon.ask("ping")


@pytest.mark.parametrize("beyond", [0, 1], ids=["at the limit", "one byte over it"])
def test_the_longest_lines(daemon: Process, beyond: int) -> None:
    head = b'{"op":"report","id":1,"provider":"anthropic","model":"sonnet","outcome":"error","status":500,"body":"'
    line = head + b"x" * (MAX_LINE + beyond - len(head) - 2) + b'"}'
    assert len(line) == MAX_LINE + beyond
    with abused(daemon) as crowd:
        for size in (1, 8191, 65_536, MAX_LINE - 1, MAX_LINE, 10 * MIB):
            peer = crowd.peer()
            for begin in range(0, len(line) + 1, size) if size > 1 else ():
                peer.sendall((line + b"\n")[begin : begin + size])
            if size == 1:
                peer.sendall(line[:-300])
                for n in range(len(line) - 300, len(line)):
                    peer.sendall(line[n : n + 1])
                peer.sendall(b"\n")
            answer = hears(peer)
            if beyond:
                assert (answer["type"], answer["code"]) == ("error", "too_large")
                assert has_ended(peer)
            else:
                assert answer["verdict"]["kind"] == "transient"
                peer.sendall(PING)
                assert hears(peer)["type"] == "pong"
    assert daemon.ask("status")["providers"][0]["error_count"] == (0 if beyond else 6)


def test_reports_of_peers_that_vanish_count_where_they_were_whole(daemon: Process) -> None:
    with abused(daemon) as crowd:
        for n in range(100):
            line = REPORT % b',"lease":"gone-%d"' % n
            for part in (line[: n % len(line)], line[:-1], line):
                peer = crowd.peer()
                peer.sendall(part)
                peer.close()
        peer = crowd.peer()
        for n in range(100):
            peer.sendall(REPORT % b',"lease":"gone-%d"' % n)
            assert hears(peer)["duplicate"] is True, "it had been counted although nobody read the reply"
    assert counted(daemon) == 100


def test_leases_of_peers_that_vanish_count_once(daemon: Process) -> None:
    with abused(daemon) as crowd:
        peers = crowd.peers(30)
        for peer in peers:
            peer.sendall(b'{"op":"acquire","provider":"anthropic","model":"sonnet"}\n')
        leases = [hears(peer)["lease"] for peer in peers]
        for peer in peers:
            peer.close()
        with daemon.client() as client:
            until = time.monotonic() + SOON
            while client.request("status")["providers"][0]["in_flight"]:
                assert time.monotonic() < until
        peer = crowd.peer()
        for lease in leases:
            peer.sendall(REPORT % f',"lease":"{lease}"'.encode())
            assert hears(peer)["type"] == "recorded"
    assert counted(daemon) == 30
    daemon.kill()
    daemon.begin()
    assert counted(daemon) == 30


DEEP = 100_000
ODD = {
    "half a character": ('{"op":"ping","id":"ö'.encode()[:-1] + b'"}', "bad_request"),
    "a character of another encoding": (b'{"op":"ping","id":"\xe9"}', "bad_request"),
    "an overlong character": (b'{"op":"ping","id":"\xc0\xaf"}', "bad_request"),
    "a byte order mark": (b'\xef\xbb\xbf{"op":"ping","id":1}', "bad_request"),
    "deep lists": (b'{"op":"ping","x":' + b"[" * DEEP + b"]" * DEEP + b"}", "bad_request"),
    "deep objects": (b'{"op":"ping","x":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + b"}", "bad_request"),
    "a huge whole number": (b'{"op":"ping","id":' + b"9" * 200_000 + b"}", "bad_request"),
    "a huge power": (b'{"op":"cooldown","provider":"anthropic","for_ms":1e999}', "bad_request"),
    "a huge usage": (REPORT[:-2] % b',"usage":{"input":1e300}' + b"}", "bad_request"),
    "not a number": (REPORT[:-2] % b',"usage":{"cost":NaN}' + b"}", "bad_request"),
    "minus infinity": (REPORT[:-2] % b',"usage":{"cost":-Infinity}' + b"}", "bad_request"),
    "NUL bytes": (b'{"op":"ping",\0"id":1}', "bad_request"),
    "NUL bytes alone": (b"\0" * 1000, "bad_request"),
    "a raw control character": (b'{"op":"ping","id":"\x01"}', "bad_request"),
    "a lone surrogate": (b'{"op":"ping","id":"\\ud83d"}', "bad_request"),
    "two objects in a line": (b'{"op":"ping","id":1}{"op":"ping","id":2}', "bad_request"),
    "two operations, the last of which is none": (b'{"op":"ping","op":"fly","id":1}', "unknown_op"),
    "a carriage return": (b'{"op":"ping","id":1}\r', None),
    "NUL in a string": (b'{"op":"ping","id":"a\\u0000b"}', None),
    "a key twice": (b'{"op":"ping","id":7,"id":1}', None),
    "a very long key": (b'{"op":"ping","' + b"k" * 200_000 + b'":1}', None),
    "very many keys": (b'{"op":"ping"' + b"".join(b',"k%d":%d' % (n, n) for n in range(15_000)) + b"}", None),
}


def test_odd_bytes(daemon: Process) -> None:
    with abused(daemon) as crowd:
        peer = crowd.peer()
        for name, (line, code) in ODD.items():
            peer.sendall(line + b"\n")
            answer = hears(peer)
            assert (answer["type"], answer.get("code")) == ("pong" if code is None else "error", code), (name, answer)
            assert len(json.dumps(answer)) < 1000, "an error does not repeat what it is about"
            peer.sendall(PING)
            assert hears(peer) == {"type": "pong", "id": 1}, name
    assert counted(daemon) == 0


def test_a_character_that_comes_in_two_parts_is_whole(daemon: Process) -> None:
    with abused(daemon) as crowd:
        peer = crowd.peer()
        line = '{"op":"ping","id":"日本 ö 🦉"}\n'.encode()
        for n in range(len(line)):
            peer.sendall(line[n : n + 1])
        assert hears(peer) == {"type": "pong", "id": "日本 ö 🦉"}


def test_hostile_reports_take_no_time(daemon: Process) -> None:
    """Regular expressions, nested JSON and long lists in what a provider sent: each is over in a moment."""
    sizes = 60_000
    bodies = [
        "(" * sizes,
        "[" * sizes,
        '{"error":' * (sizes // 9),
        '{"message":"' + "\\" * sizes,
        "try again in " * (sizes // 13),
        "1" * sizes,
        "a " * (sizes // 2) + "retry after 1h" + "2m" * 1000,
        "data: {" * (sizes // 7),
        "data: {}\n\n" * (sizes // 10),
        "<html>" + "<" * sizes,
        '"' * sizes,
        "https://" * (sizes // 8),
        " " * sizes + "x",
        "\n" * sizes,
        json.dumps({"error": {"message": "x" * sizes, "code": "y" * 100, "details": [{"a": 1}] * 2000}}),
    ]
    with abused(daemon) as crowd, crowd.peer() as peer:
        for status in (200, 429, 500, 400):
            for body in bodies:
                headers = {f"x-ratelimit-remaining-{n}-requests": "1" * 200 for n in range(200)}
                fields = {"headers": headers, "body": body, "message": body[:20_000], "status": status}
                message = {"op": "report", **ANTHROPIC, "outcome": "error", **fields}
                before = psutil.Process(daemon.popen.pid).cpu_times().user
                peer.sendall(json.dumps(message).encode() + b"\n")
                assert hears(peer)["type"] == "recorded"
                took = psutil.Process(daemon.popen.pid).cpu_times().user - before
                assert took < 0.5, (status, body[:40], took)


def test_a_crowd_that_floods(daemon: Process) -> None:
    """Several processes ask as fast as they can: somebody who comes then is answered in time, each time."""
    code = (
        "import socket, sys\n"
        "peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1]); line = sys.argv[2].encode() + b'\\n'\n"
        "while True:\n"
        "    peer.sendall(line * 500)\n"
        "    n = 0\n"
        "    while n < 500: n += peer.recv(65536).count(b'\\n')\n"
    )
    lines = (
        '{"op":"status"}',
        '{"op":"acquire","provider":"anthropic","model":"sonnet","dry_run":true}',
        '{"op":"report","provider":"anthropic","model":"sonnet","outcome":"error","status":400,"body":"no"}',
        "{",
    )
    path = str(daemon.place.paths.socket)
    with abused(daemon):
        flood = [subprocess.Popen([sys.executable, "-c", code, path, line]) for line in lines]
        try:
            for _ in range(30):
                assert daemon.ask("acquire", **ANTHROPIC, dry_run=True)["type"] == "use"
        finally:
            for process in flood:
                process.kill()
                process.wait()


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root can become another user"
)
def test_another_user_is_refused_although_the_way_is_open(daemon: Process) -> None:
    """Only the check of who is at the other end keeps them out here."""
    paths = daemon.place.paths
    for path in (daemon.place.root, paths.state_dir):
        path.chmod(0o711)
    paths.socket.chmod(0o777)
    code = (
        "import socket, sys\n"
        "peer = socket.socket(socket.AF_UNIX); peer.settimeout(10); peer.connect(sys.argv[1])\n"
        'peer.sendall(b\'{"op":"shutdown"}\\n\')\n'
        "data = b''\n"
        "try:\n"
        "    while more := peer.recv(4096): data += more\n"
        "except ConnectionResetError: pass\n"
        "print(data.decode(), end='')\n"
    )
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    owner = daemon.popen.pid
    with abused(daemon):
        told = subprocess.run(
            [python, "-c", code, str(paths.socket)],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert told.stdout, told.stderr.decode()
        assert json.loads(told.stdout) == {
            "type": "error",
            "id": None,
            "code": "unauthorized",
            "message": "This rlmd serves its owner only.",
        }
    assert (daemon.ask("ping")["type"], daemon.popen.pid) == ("pong", owner)
    assert "a connection of another user was refused" in daemon.log.read_text()
    assert Path(f"/proc/{owner}").exists() or daemon.popen.poll() is None
