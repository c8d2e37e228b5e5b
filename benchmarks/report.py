"""What a report costs with its commit, and an acquire, beside a server that does nothing but answer.

    python benchmarks/report.py [CLIENTS ...]

The yardstick is a plain trio server that decodes and encodes messages of the same size. All three take turns, round
by round, with client and servers on one core where the system can do that; the ratio is the median over the rounds.
Exit code 1 where a report takes more than 2.2 times as long as the yardstick's answer.
"""

# ruff: noqa: INP001, T201  (a script of its own, and what it prints is its result)

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROUNDS, CALLS = 15, 2000
TARGET = 2.2
CONFIG = """
[[provider]]
id = "anthropic"
models = ["claude-sonnet-4-5"]
hourly_limit = 100_000_000
daily_limit = 100_000_000
"""
ASK = b'{"op":"acquire","id":1,"provider":"anthropic","model":"claude-sonnet-4-5","session":"%d","dry_run":true}\n'
TELL = (
    b'{"op":"report","id":1,"provider":"anthropic","model":"claude-sonnet-4-5","session":"%d","outcome":"ok",'
    b'"status":200,"usage":{"input":1200,"output":300,"cost":0.012}}\n'
)
YARDSTICK = """
import contextlib, sys, trio, msgspec

class Ask(msgspec.Struct):
    op: str
    id: int
    provider: str = ""
    model: str = ""
    session: str = ""

class Answer(msgspec.Struct):
    id: int
    provider: str
    model: str
    switched: bool
    reason: str
    message: str
    lease: str

decode, encode = msgspec.json.Decoder(Ask).decode, msgspec.json.Encoder().encode

async def serve(stream):
    with contextlib.suppress(trio.BrokenResourceError):
        await answer(stream)

async def answer(stream):
    async with stream:
        while data := await stream.receive_some(65536):
            replies = []
            for line in data.split(b"\\n")[:-1]:
                ask = decode(line)
                text = "anthropic comes first: priority 1; " * 4
                reply = Answer(ask.id, ask.provider, ask.model, False, "preferred", text, "5f-1")
                replies.append(encode(reply) + b"\\n")
            await stream.send_all(b"".join(replies))

async def main():
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(sys.argv[1])
    listener.listen(128)
    await trio.serve_listeners(serve, [trio.SocketListener(listener)])

trio.run(main)
"""


def await_answer(path: Path) -> None:
    """Wait until somebody listens there."""
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            return
        time.sleep(0.05)


def latency(path: Path, line: bytes, clients: int) -> float:
    """Return the median of microseconds from a request to its reply, each client sending the next when it has it."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(clients)]
        polled, sent = select.poll(), {}
        for number, peer in enumerate(peers):
            peer.connect(str(path))
            polled.register(peer, select.POLLIN)
            sent[peer.fileno()] = (peer, line.replace(b"%d", b"%d" % number), time.perf_counter())
            peer.sendall(sent[peer.fileno()][1])
        taken: list[float] = []
        while len(taken) < CALLS:
            for number, _ in polled.poll():
                peer, request, begun = sent[number]
                peer.recv(65536)
                now = time.perf_counter()
                taken.append(now - begun)
                sent[number] = (peer, request, time.perf_counter())
                peer.sendall(request)
        return median(taken) * 1e6


def main() -> int:
    """Print a row of a table for each number of clients, and a line of JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # inherited by both servers
    good = True
    with tempfile.TemporaryDirectory(prefix="rlmd-") as home, contextlib.ExitStack() as stack:
        place = Path(home)
        (place / "config.toml").write_text(CONFIG)
        environ = os.environ | {"RLMD_CONFIG": str(place / "config.toml"), "RLMD_STATE_DIR": home}
        environ.pop("RLMD_SOCKET", None)
        daemon, yardstick = place / "rlmd.sock", place / "yardstick.sock"
        for command in ([sys.executable, "-m", "rlmd"], [sys.executable, "-c", YARDSTICK, str(yardstick)]):
            process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)  # noqa: S603  (our own)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for path in (daemon, yardstick):
            await_answer(path)
        print("| clients | yardstick | acquire | report | acquire, ratio | report, ratio |")
        print("|---|---|---|---|---|---|")
        for clients in [int(argument) for argument in sys.argv[1:]] or [1, 8]:
            kinds = ((yardstick, ASK), (daemon, ASK), (daemon, TELL))
            rounds = [[latency(path, line, clients) for path, line in kinds] for _ in range(ROUNDS)]
            times = [median(column) for column in zip(*rounds, strict=True)]
            ratios = [median(row[n] / row[0] for row in rounds) for n in (1, 2)]
            cells = [*(f"{t:.1f} µs" for t in times), *(f"{ratio:.2f}" for ratio in ratios)]
            print(f"| {clients} | {' | '.join(cells)} |")
            print(json.dumps({"clients": clients, "us": [round(t, 1) for t in times], "ratios": ratios}))
            good = good and ratios[1] <= TARGET
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
