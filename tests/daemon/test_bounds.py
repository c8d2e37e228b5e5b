"""Nobody can use the daemon up: what there may be of everything, and what is said to who wants more."""

from __future__ import annotations

import importlib
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from house import MODEL, House, Peer

from rlmd.core import requests
from rlmd.core.leases import LEASE
from rlmd.server import capacity

PING = b'{"op":"ping","id":1}\n'
PAGE = (Path(__file__).parents[2] / "docs/limits.md").read_text(encoding="utf-8")
ANTHROPIC = {"provider": "anthropic", "model": MODEL}


async def test_one_connection_too_many_is_told_so_and_closed(house: House) -> None:
    house.daemon.server._room = 3
    peers = [await house.peer() for _ in range(3)]
    for peer in peers:
        await peer.ask("ping")
    late = await house.peer()
    error = await late.hear()
    assert (error["type"], error["code"]) == ("error", "unavailable")
    assert error["message"].startswith("rlmd serves 3 connections already: close one")
    assert await late.ended()
    await peers[0].ask("ping")
    await peers[1].stream.aclose()
    await house.settled()
    assert (await (await house.peer()).ask("ping"))["type"] == "pong"


async def test_a_chunk_of_very_many_requests_lets_others_between(house: House, peer: Peer) -> None:
    await peer.ask("ping")
    crowd = await house.peer()
    await crowd.ask("ping")
    handled: list[str] = []
    handle = house.daemon.server._dispatch.handle

    def noted(request: Any, connection: Any) -> Any:
        handled.append(request.__class__.__name__)
        return handle(request, connection)

    house.daemon.server._dispatch.handle = noted  # type: ignore[method-assign]
    await crowd.say(PING * 1000)
    await peer.say({"op": "hello", "id": 7})
    assert (await peer.hear())["type"] == "welcome"
    assert handled.index("Hello") <= 2 * capacity.LINES, "one turn of the crowd at most is before it, and one beside it"
    assert [(await crowd.hear())["type"] for _ in range(1000)] == ["pong"] * 1000


@pytest.mark.parametrize("op", ["status", "log", "explain"])
async def test_long_answers_are_given_one_at_a_time_to_those_who_read_them(house: House, peer: Peer, op: str) -> None:
    await peer.say({"op": op, "id": 0, "model": MODEL})
    size = len(await peer.stream.receive_some(2**20))
    await peer.say(*[{"op": op, "id": n, "model": MODEL} for n in range(1000)])
    await house.settled()
    (connection,) = house.daemon.server._connections
    assert connection.unread <= size + 10, "the rest is in the system's buffer, or not asked yet"
    assert [(await peer.hear())["id"] for _ in range(1000)] == list(range(1000))


async def test_who_reads_nothing_is_let_go_after_a_minute(house: House, peer: Peer) -> None:
    silent = await house.peer()
    with trio.move_on_after(1):
        await silent.say(b'{"op":"status"}\n' * 4000)
    await trio.sleep(capacity.STUCK - 2)
    assert await house.connections() == 2
    await trio.sleep(2)
    assert await house.connections() == 1
    await peer.ask("ping")


async def test_who_reads_slowly_gets_everything(peer: Peer) -> None:
    peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await peer.say(*[{"op": "status", "id": n} for n in range(1500)])
    expected = 0
    while expected < 1500:
        await trio.sleep(capacity.STUCK - 1)
        for _ in range(100):
            assert (await peer.hear())["id"] == expected
            expected += 1


async def test_who_reads_slowly_is_not_blamed_for_a_line_that_is_left_unread(peer: Peer, nursery: trio.Nursery) -> None:
    requests = [{"op": "status", "id": n, "more": "x" * 60} for n in range(3000)]
    nursery.start_soon(peer.say, *requests)
    for n in range(3000):
        if n % 300 == 0:
            await trio.sleep(capacity.STUCK - 1)
        assert (await peer.hear())["id"] == n


async def test_a_line_that_is_begun_and_not_finished_ends_the_connection(house: House, peer: Peer) -> None:
    await peer.say(PING[:7])
    await trio.sleep(capacity.STUCK - 1)
    await peer.say(PING[7:9])
    await trio.sleep(0.9)
    assert await house.connections() == 1
    assert await peer.hear() == {
        "type": "error",
        "id": None,
        "code": "bad_request",
        "message": "A line was begun and not finished within 60 s; this connection is closed.",
    }
    assert await peer.ended()
    await trio.sleep(capacity.LINGER)
    assert await house.connections() == 0


async def test_slow_lines_that_are_finished_are_fine(peer: Peer) -> None:
    for _ in range(5):
        await peer.say(PING[:7])
        await trio.sleep(capacity.STUCK - 1)
        await peer.say(PING[7:] + PING[:3])
        assert (await peer.hear())["type"] == "pong"
        await trio.sleep(2)
        await peer.say(PING[3:])
        assert (await peer.hear())["type"] == "pong"


@pytest.mark.parametrize("bound", ["LEASES_OF_ONE", "LEASES"])
async def test_leases_have_an_end(house: House, peer: Peer, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, bound, 3)
    uses = [await peer.use() for _ in range(3)]
    error = await peer.ask("acquire", **ANTHROPIC)
    assert (error["type"], error["code"]) == ("error", "unavailable")
    assert "3 requests under way that nobody has reported" in error["message"]
    assert (await peer.ask("acquire", **ANTHROPIC, dry_run=True))["type"] == "use"
    assert (await peer.ask("acquire", **ANTHROPIC, purpose="turn"))["type"] == "use"
    other = await house.peer()
    assert (await other.ask("acquire", **ANTHROPIC))["type"] == ("error" if bound == "LEASES" else "use")
    await peer.report(uses[1])
    await peer.use()
    assert (await peer.ask("acquire", **ANTHROPIC))["type"] == "error"
    await trio.sleep(LEASE)
    for _ in range(3):
        await peer.use()


async def test_very_many_leases_are_let_go_in_parts(house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "RELEASED", 10)
    crowd = await house.peer()
    for _ in range(25):
        await crowd.use()
    released: list[int] = []
    release = house.daemon.ledger.release

    def noted(leases: Any, now: float) -> Any:
        released.append(len(leases))
        return release(leases, now)

    house.daemon.ledger.release = noted  # type: ignore[method-assign]
    assert await peer.used() == (0, 25)
    await crowd.stream.aclose()
    await house.settled()
    assert released == [10, 10, 5]
    assert await peer.used() == (25, 0)


async def test_subscribers_have_an_end(house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "SUBSCRIBERS", 2)
    first, second = await house.peer(), await house.peer()
    await first.ask("subscribe")
    await second.ask("subscribe", events=["state"])
    error = await peer.ask("subscribe")
    assert (error["code"], error["message"][:38]) == ("unavailable", "2 connections listen to events already")
    assert (await second.ask("subscribe", events=["auth"]))["type"] == "subscribed", "it is one of the two"
    await second.ask("subscribe", events=[])
    assert (await peer.ask("subscribe"))["type"] == "subscribed"


async def test_an_event_after_a_long_reply_ends_no_connection(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "EVENTS_UNREAD", 300)
    await peer.ask("subscribe", events=["config"])
    await peer.say(*[{"op": "status", "id": n} for n in range(400)])
    await house.settled()
    await (await house.peer()).ask("reload")
    answers = [await peer.hear() for _ in range(401)]
    assert [a["type"] for a in answers].count("event") == 1
    assert [a["id"] for a in answers if a["type"] == "status"] == list(range(400))


async def test_long_answers_wait_until_those_that_others_asked_for_are_read(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "UNREAD", 0)
    silent = await house.peer()
    await silent.say(b'{"op":"status"}\n' * 3000)
    await house.settled()
    for op in ("status", "log", "explain", "history"):
        error = await peer.ask(op, model=MODEL)
        assert (error["code"], error["message"][-22:]) == ("unavailable", "Try again in a moment.")
    assert (await peer.ask("acquire", **ANTHROPIC))["type"] == "use"
    await silent.stream.aclose()
    await house.settled()
    assert (await peer.ask("status"))["type"] == "status"


def written(value: object) -> set[str]:
    """How the page may write a bound."""
    if isinstance(value, int | float):
        mib = {f"{value // 2**20} MiB"} if value >= 2**20 else set()
        return {f"{value:,}", f"{value:g} s", *mib}
    (meta,) = getattr(value, "__metadata__", (None,))
    return {f"{meta.max_length:,}"} if meta is not None else set()


def test_the_page_names_every_bound_with_its_number() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and line.count(" | ") == 3]
    named: set[str] = set()
    for what, bound, _, constants in rows[1:]:
        for constant in re.findall(r"`([\w.]+)`", constants):
            module, _, name = constant.rpartition(".")
            value = getattr(importlib.import_module(f"rlmd.{module}"), name)
            if not isinstance(value, type):
                assert any(re.search(rf"\b{n}\b", f"{what} {bound}") for n in written(value)), (constant, value, bound)
            named.add(constant)
    ours = {f"server.capacity.{name}" for name in vars(capacity) if name.isupper()}
    assert ours <= named
    assert requests.Report.__annotations__["headers"] == "Annotated[dict[str, str], Meta(max_length=256)]"
