"""Clients that pipeline everything and read slowly, on a real clock, while the log is checkpointed all the time.

Replies come in the order of the requests, whole, with events between them and never within.
"""

from __future__ import annotations

import json
import random
import socket
import time
from typing import TYPE_CHECKING, Any

import trio
from house import MODEL, TWO, House, Peer, Place

from rlmd.server import capacity, outbox
from rlmd.store import checkpoint, database

if TYPE_CHECKING:
    import pytest

KINDS: tuple[tuple[str, dict[str, Any], set[str]], ...] = (
    ("ping", {}, {"pong"}),
    ("status", {}, {"status"}),
    ("report", {"outcome": "ok"}, {"recorded"}),
    ("report", {"outcome": "ok"}, {"recorded"}),
    ("report", {"outcome": "error", "status": 400}, {"recorded"}),
    ("acquire", {}, {"use", "wait"}),
    ("acquire", {"dry_run": True}, {"use", "wait"}),
    ("history", {}, {"history"}),
    ("log", {"limit": 100}, {"log"}),
    ("subscribe", {}, {"subscribed"}),
    ("disable", {}, {"done"}),
    ("enable", {}, {"done"}),
    ("explain", {}, {"explained"}),
    ("fly", {}, {"error"}),
)
EACH = 120


class Wanted:
    """What the clients have sent and heard."""

    counted = 0
    events = 0
    held = 0


async def write(peer: Peer, sent: list[set[str]], rng: random.Random, wanted: Wanted) -> None:
    while len(sent) < EACH:
        chunk = b""
        for _ in range(min(rng.randrange(1, 30), EACH - len(sent))):
            op, fields, expected = rng.choice(KINDS)
            message = {"op": op, "id": len(sent), "provider": "anthropic", "model": MODEL, **fields}
            chunk += json.dumps(message).encode() + b"\n"
            sent.append(expected)
            wanted.counted += fields == {"outcome": "ok"}
        while chunk:
            size = rng.randrange(1, len(chunk) + 1)
            await peer.stream.send_all(chunk[:size])
            chunk = chunk[size:]


async def read(peer: Peer, sent: list[set[str]], rng: random.Random, wanted: Wanted) -> None:
    rest, got = b"", 0
    while got < EACH:
        data = await peer.stream.receive_some(rng.choice([10, 1000, 65_536]))
        assert data, "the connection ended"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["type"] == "event":
                wanted.events += 1
                continue
            assert message["id"] == got
            assert message["type"] in sent[got]
            got += 1
        if rng.random() < 0.02:
            await trio.sleep(0.01)


async def converse(house: House, seed: int, wanted: Wanted) -> None:
    rng = random.Random(seed)
    peer = await house.peer()
    if seed % 2:
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sent: list[set[str]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, peer, sent, rng, wanted)
        await read(peer, sent, rng, wanted)


async def crowd(place: Place, wanted: Wanted) -> None:
    async with trio.open_nursery() as nursery:
        house = House(place, nursery)
        house.now = time.time  # type: ignore[method-assign]
        house.begin()
        resumed = house.daemon.server.commits_resumed

        def counted() -> None:
            wanted.held += 1
            resumed()

        house.daemon.server.commits_resumed = counted  # type: ignore[method-assign]
        with trio.fail_after(60):
            async with trio.open_nursery() as clients:
                for seed in range(5):
                    clients.start_soon(converse, house, seed, wanted)
        used, _ = await (await house.peer()).used()
        assert used == wanted.counted
        await house.end()


def test_pipelines_while_the_log_is_checkpointed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CHECKPOINT_AT", 16 * 1024)
    monkeypatch.setattr(database, "FOLD_AT", 5)
    monkeypatch.setattr(checkpoint, "AGAIN", 0.01)
    monkeypatch.setattr(capacity, "LINES", 7)
    place.configure(TWO.replace("50", "1_000_000").replace("1000", "1_000_000"))
    wanted = Wanted()
    trio.run(crowd, place, wanted)
    assert wanted.events > 0
    assert wanted.held > 1
