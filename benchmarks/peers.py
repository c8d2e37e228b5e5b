"""The same decision by what a user would have instead: LiteLLM, a limiter in Redis, a file of JSON."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from benchmarks import installed, servers
from benchmarks.beside.json_file import JsonFile
from benchmarks.beside.redis_py import LIMITER
from benchmarks.latency import ASK, LEASE, TELL
from benchmarks.load import Figures, Load, apply, note
from benchmarks.rounds import Rounds
from benchmarks.table import Row, UnavailableError
from rlmd.client.connection import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PART = "peers"
PROXY = "LiteLLM's proxy, mock answer"
ROUTER = "LiteLLM's Router, mock answer"
CHOICE = "LiteLLM's Router, the choice alone"
REDIS = "a Lua limiter in Redis"
REDIS_PY = "the same through redis-py"
FILE = "a JSON file written for each request"
NOTES = {
    PROXY: f"The proxy ({installed.LITELLM}) answers itself; its usage-based routing counts a minute, in memory.",
    ROUTER: "The Router runs inside the process that asks: no socket, no disk, nobody else sees its counters.",
    CHOICE: "Of the Router's call, choosing a deployment alone: nothing is counted.",
    REDIS: "Redis counts when it is asked, keeps nothing on a disk in this run, and hears of no outcome.",
    REDIS_PY: f"Both through the Python client that a program would use ({installed.REDIS_PY}).",
    FILE: "The file is written by the process that asks, without a sync; two processes overwrite each other's counts.",
}
MODEL = "claude-sonnet-4-5"
PATIENCE = 120.0
"""Seconds that LiteLLM may take to start."""


class Times(msgspec.Struct):
    """Percentiles in microseconds."""

    p50: float
    p99: float


def _p50(found: Times) -> float:
    return found.p50


def _p99(found: Times) -> float:
    return found.p99


def _half(found: Times) -> float:
    return found.p50 / 2


class Plan(NamedTuple):
    """How much is measured, and where."""

    rounds: int
    requests: int
    calls: int
    """Of what is slow."""
    core: int | None
    install: bool


def measure(*, short: bool) -> Iterator[Row]:
    """Compare with each in turn; one that cannot be had has a row that says why."""
    core, _ = servers.cores()
    plan = Plan(3, 1000, 20, core, install=False) if short else Plan(15, 4000, 200, core, install=True)
    with tempfile.TemporaryDirectory(prefix="rlmd-") as place, servers.daemon(Path(place), core) as daemon:
        contenders = (
            (PROXY, 0.01, _beside_the_proxy),
            (ROUTER, 0.1, _beside_the_router),
            (REDIS, 1.5, _beside_redis),
            (FILE, None, _beside_a_file),
        )
        for beside, most, compare in contenders:
            try:
                yield from compare(daemon, Path(place), plan)
            except UnavailableError as error:
                yield Row(part=PART, what="the same decision", beside=beside, most=most, note=str(error))


def _beside_the_proxy(daemon: servers.Server, place: Path, plan: Plan) -> Iterator[Row]:
    python = installed.python(installed.LITELLM, install=plan.install)
    with _proxy(python, place, plan.core) as (address, key):
        proxy = _http(address, key)
        found = Rounds(_ours(daemon, plan) | {PROXY: partial(_timed, proxy, plan.calls, plan.core)}, plan.rounds)
    yield _row("acquire, p50", found, "acquire", PROXY, most=0.01)
    yield _row("acquire and report with its commit, p50", found, "pair", PROXY)


def _beside_the_router(daemon: servers.Server, _: Path, plan: Plan) -> Iterator[Row]:
    python = installed.python(installed.LITELLM, install=plan.install)
    with _worker([str(python), "-m", "benchmarks.beside.router"], plan.core) as ask:
        theirs = {
            ROUTER: partial(ask, f"completion {plan.calls}"),
            CHOICE: partial(ask, f"choice {plan.calls}"),
        }
        found = Rounds(_ours(daemon, plan) | theirs, plan.rounds)
    yield _row("acquire and report with its commit, p50", found, "pair", ROUTER, most=0.1)
    yield _row("acquire, p50", found, "acquire", CHOICE)


def _beside_redis(daemon: servers.Server, place: Path, plan: Plan) -> Iterator[Row]:
    command, environ = installed.redis_server(install=plan.install)
    path = place / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(place))
    with servers.serving([*command, *options], path, servers.environ(place) | environ, plan.core):
        limiter = Load((_evalsha(path),), plan.requests)
        theirs = {REDIS: partial(_by_load, path, limiter, plan.core)}
        found = Rounds(_ours(daemon, plan) | theirs, plan.rounds)
        yield _row("acquire, p50", found, "acquire", REDIS, most=1.5)
        yield _row("acquire, p99", found, "acquire", REDIS, _p99)
        yield _row("half of an acquire and a report with its commit, p50", found, "pair", REDIS, _half, _p50)
        try:
            yield _through_python(daemon, path, plan)
        except UnavailableError as error:
            yield Row(part=PART, what="acquire by rlmctl's client, p50", beside=REDIS_PY, note=str(error))


def _through_python(daemon: servers.Server, path: Path, plan: Plan) -> Row:
    python = installed.python(installed.REDIS_PY, install=plan.install)
    command = [str(python), "-m", "benchmarks.beside.redis_py", str(path)]
    with _worker(command, plan.core) as ask, Client(daemon.socket, 60) as client:
        asked = {"provider": "anthropic", "model": MODEL, "session": "ses_5b1e7c3a9d550123"}
        acquire = partial(client.request, "acquire", **asked)
        ours = {"acquire": partial(_timed, acquire, plan.requests, plan.core)}
        found = Rounds(ours | {REDIS_PY: partial(ask, f"{plan.requests}")}, plan.rounds)
    return _row("acquire by rlmctl's client, p50", found, "acquire", REDIS_PY)


def _beside_a_file(daemon: servers.Server, place: Path, plan: Plan) -> Iterator[Row]:
    file = JsonFile(place / "counters.json")
    theirs = {FILE: partial(_timed, file.take, plan.requests, plan.core)}
    found = Rounds(_ours(daemon, plan) | theirs, plan.rounds)
    yield _row("acquire, p50", found, "acquire", FILE)
    yield _row("acquire and report with its commit, p50", found, "pair", FILE)


def _row(
    what: str,
    found: Rounds[Times],
    ours: str,
    theirs: str,
    figure: Callable[[Times], float] = _p50,
    other: Callable[[Times], float] | None = None,
    *,
    most: float | None = None,
) -> Row:
    return Row(
        part=PART,
        what=what,
        ours=found.median(ours, figure),
        beside=theirs,
        theirs=found.median(theirs, other or figure),
        ratio=found.ratio(ours, theirs, figure, other),
        most=most,
        note=" ".join(filter(None, (NOTES[theirs], note()))),
    )


def _ours(daemon: servers.Server, plan: Plan) -> dict[str, Callable[[], Times]]:
    """Give what all of them are compared with: an acquire; an acquire and its report."""
    asked, told = Load((ASK,), plan.requests), Load((ASK, TELL), 2 * plan.requests, capture=LEASE)

    def acquire() -> Times:
        return _by_load(daemon.socket, asked, plan.core)

    def pair() -> Times:
        found = apply(told, daemon.socket, plan.core)
        return Times(sum(line.p50 for line in found.lines), sum(line.p99 for line in found.lines))

    return {"acquire": acquire, "pair": pair}


def _by_load(path: Path, load: Load, core: int | None) -> Times:
    found: Figures = apply(load, path, core)
    return Times(found.all.p50, found.all.p99)


def _timed(call: Callable[[], object], calls: int, core: int | None) -> Times:
    """Time calls from this process."""
    taken = []
    with servers.on_core(core):
        for _ in range(calls):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
    parts = quantiles(taken, n=100)
    return Times(parts[49] * 1e6, parts[98] * 1e6)


@contextmanager
def _worker(command: list[str], core: int | None) -> Iterator[Callable[[str], Times]]:
    """Run a process that measures by itself; give the function that has it do so."""
    with servers.on_core(core):
        process = subprocess.Popen(
            command, cwd=servers.HERE.parent, env=_quiet(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(line: str) -> Times:
        print(line, file=process.stdin, flush=True)
        return msgspec.json.decode(_answer(), type=Times)

    def _answer() -> str:
        while line := process.stdout.readline() if process.stdout else "":
            if line.startswith(("{", "ready")):
                return line
        raise UnavailableError(f"{command[-1]} ended with {process.wait()}")

    with process:
        try:
            _answer()
            yield ask
        finally:
            process.terminate()


@contextmanager
def _proxy(python: Path, place: Path, core: int | None) -> Iterator[tuple[tuple[str, int], str]]:
    """Run LiteLLM's proxy with two deployments and usage-based routing; give its address and key."""
    key = f"sk-{secrets.token_hex(24)}"
    answer = {"api_key": "none", "mock_response": "ok", "rpm": 10**8, "tpm": 10**11}
    models = [
        {"model_name": MODEL, "litellm_params": {"model": f"{provider}/{MODEL}", **answer}}
        for provider in ("anthropic", "openrouter")
    ]
    settings = {"model_list": models, "router_settings": {"routing_strategy": "usage-based-routing-v2"}}
    config = place / "litellm.yaml"
    config.write_text(json.dumps(settings | {"general_settings": {"master_key": key}}), encoding="utf-8")
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        address: tuple[str, int] = reserved.getsockname()
    where = ("--host", address[0], "--port", str(address[1]))
    command = [str(python.with_name("litellm")), "--config", str(config), *where]
    with servers.on_core(core):
        process = subprocess.Popen(command, env=_quiet(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_port(address, process)
        yield address, key
    finally:
        process.terminate()
        process.wait()


def _await_port(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), closing(socket.create_connection(address)):
            return
        time.sleep(0.2)
    raise UnavailableError("LiteLLM's proxy does not start")


def _http(address: tuple[str, int], key: str) -> Callable[[], object]:
    """Give the function that asks a proxy for a completion on a connection that stays."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
    head = (
        f"POST /chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = (head + body).encode()
    peer = socket.create_connection(address, 60)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> None:
        peer.sendall(request)
        data = peer.recv(65536)
        while b"\r\n\r\n" not in data:
            data += peer.recv(65536)
        headers, _, rest = data.partition(b"\r\n\r\n")
        if not headers.startswith(b"HTTP/1.1 200"):
            raise UnavailableError(f"LiteLLM's proxy answered {headers[:40]!r}")
        length = int(headers.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(rest) < length:
            rest += peer.recv(65536)

    return ask


def _evalsha(path: Path) -> str:
    """Load the limiter; give the line that calls it."""
    with closing(socket.socket(socket.AF_UNIX)) as peer:
        peer.connect(str(path))
        script = LIMITER.read_bytes()
        peer.sendall(b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%s\r\n" % (len(script), script))
        _, sha, *_ = peer.recv(65536).decode().split("\r\n")
    words = ("EVALSHA", sha, "2", "anthropic", "openrouter", "100000000", "1000000000")
    return "{r}".join([f"*{len(words)}", *(f"${len(word)}{{r}}{word}" for word in words)]) + "\r"


def _quiet() -> dict[str, str]:
    """Return an environment for LiteLLM in which it asks nobody for prices and logs errors only."""
    found = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    return servers.environ(installed.place()) | found
