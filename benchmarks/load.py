"""Sends requests and times the answers: by `load.c` where there is a C compiler, else by what Python can do."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import msgspec
from msgspec import Struct

from benchmarks.servers import on_core

SOURCE = Path(__file__).with_name("load.c")
PYTHON = "No C compiler was found: the client is Python's, whose own time is in every figure and hides differences."


class LoadError(Exception):
    """A request failed, or the server went away; the message is the answer."""


class Times(Struct):
    """Percentiles of the times of some requests, in microseconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float


class Figures(Struct):
    """What came of a load: answers a second, times of all requests, and of those from each line."""

    rate: float
    lines: list[Times]
    all: Times


class Load(NamedTuple):
    """Requests of one line each. `{n}`, `{c}`, `{r}` and `{x}` in them: see `load.c`."""

    lines: tuple[str, ...]
    requests: int
    connections: int = 1
    depth: int = 1
    rate: float = 0.0
    """Requests a second by the clock; 0: the next one as soon as one is answered."""
    capture: str = ""


def apply(load: Load, path: Path, core: int | None) -> Figures:
    """Send a load to the socket there, from a process on that core."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".lines") as lines:
        lines.write("".join(f"{line}\n" for line in load.lines))
        lines.flush()
        command = [*_program(), f"-r{load.rate}", *([f"-x{load.capture}"] if load.capture else [])]
        numbers = (load.connections, load.depth, load.requests)
        with on_core(core):
            done = subprocess.run(
                [*command, str(path), *map(str, numbers), lines.name], capture_output=True, text=True, check=False
            )
    if done.returncode:
        raise LoadError(done.stderr.strip())
    return msgspec.json.decode(done.stdout, type=Figures)


def note() -> str:
    """Say what is wrong with the client that is used; empty where nothing is."""
    return "" if len(_program()) == 1 else PYTHON


@cache
def _program() -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return [sys.executable, "-m", "benchmarks.load"]
    built = Path(_place().name) / "load"
    subprocess.run([compiler, "-O2", "-o", built, SOURCE], check=True)
    return [str(built)]


@cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rlmd-load-")  # kept until the end of the process


class _Peer:
    """A connection of the Python client."""

    def __init__(self, path: str, number: int) -> None:
        self.number = number
        self.line = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.waiting: deque[tuple[float, int]] = deque()
        self.captured: deque[str] = deque()
        self.rest = b""


def _main(arguments: list[str]) -> None:
    """Do what `load.c` does, with the same arguments."""
    rate, prefix = float(arguments.pop(0)[2:]), ""
    if arguments[0].startswith("-x"):
        prefix = arguments.pop(0)[2:]
    path, connections, depth, requests, file = arguments
    lines = Path(file).read_bytes().decode().removesuffix("\n").split("\n")
    peers = [_Peer(path, number) for number in range(int(connections))]
    times = _exchange(peers, lines, prefix, rate, 1 if rate else int(depth), int(requests))
    counted = times[len(times) // 20 :]
    span = counted[-1][2] - counted[0][2]
    each = [[(at - begun) * 1e6 for begun, n, at in counted if n == number] for number in range(len(lines))]
    every = [time for some in each for time in some]
    print(json.dumps({"rate": len(counted) / span, "lines": [*map(_times, each)], "all": _times(every)}))


def _exchange(
    peers: list[_Peer], lines: list[str], prefix: str, rate: float, depth: int, total: int
) -> list[tuple[float, int, float]]:
    """Return for each answer when its request began, which line that was, and when it came."""
    done: list[tuple[float, int, float]] = []
    sent, begun = 0, time.perf_counter()
    by_socket = {peer.socket: peer for peer in peers}
    while len(done) < total:
        for peer in peers:
            while sent < total and len(peer.waiting) < depth:
                due = begun + sent / rate if rate else time.perf_counter()
                text = lines[peer.line]
                if due > time.perf_counter() or ("{x}" in text and not peer.captured):
                    break
                if "{x}" in text:
                    text = text.replace("{x}", peer.captured.popleft())
                peer.waiting.append((due, peer.line))
                for name, value in {"n": sent, "c": peer.number, "r": "\r\n"}.items():
                    text = text.replace(f"{{{name}}}", str(value))
                peer.socket.sendall(f"{text}\n".encode())
                peer.line = (peer.line + 1) % len(lines)
                sent += 1
        soon = max(0.0, begun + sent / rate - time.perf_counter()) if rate and sent < total else 60.0
        for found in select.select(by_socket, [], [], soon)[0]:
            peer = by_socket[found]
            data = peer.socket.recv(65536)
            at = time.perf_counter()
            *answers, peer.rest = (peer.rest + data).split(b"\n")
            for answer in answers:
                if b'"type":"error"' in answer or answer.startswith(b"-"):
                    sys.exit(answer.decode())
                since, number = peer.waiting.popleft()
                done.append((since, number, at))
                if prefix and "{x}" not in lines[number]:
                    peer.captured.append(answer.decode().partition(prefix)[2].partition('"')[0])
    return done


def _times(of: list[float]) -> dict[str, float]:
    of.sort()
    parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    percentiles = {name: of[int(part * len(of))] if of else 0.0 for name, part in parts.items()}
    return {"count": len(of), "mean": fmean(of) if of else 0.0, **percentiles}


if __name__ == "__main__":
    _main(sys.argv[1:])
