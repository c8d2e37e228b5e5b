"""How a connection behaves: chunks and lines, bad ones, peers that are slow, vanish or ask at the last moment."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
import trio
from house import MODEL, House, Peer

from rlmd.core.leases import LEASE
from rlmd.core.ledger import Ledger
from rlmd.wire.codec import MAX_LINE
from rlmd.wire.messages import OPS

PING = b'{"op":"ping","id":1}\n'
PONG = {"type": "pong", "id": 1}
DEEP = b"[" * 100_000


async def test_many_requests_in_one_chunk_are_answered_in_order(peer: Peer) -> None:
    ops = ["ping", "status", "log", "subscribe", "acquire"]
    await peer.say(
        *[
            {"op": ops[n % 5], "id": n, "provider": "anthropic", "model": MODEL, "events": ["config"]}
            for n in range(200)
        ]
    )
    assert [(await peer.hear())["id"] for _ in range(200)] == list(range(200))


async def test_a_request_may_arrive_byte_by_byte(peer: Peer) -> None:
    for n in range(len(PING)):
        await peer.say(PING[n : n + 1])
    assert await peer.hear() == PONG


async def test_a_chunk_may_end_within_a_line(peer: Peer) -> None:
    await peer.say(PING + PING[:7])
    assert await peer.hear() == PONG
    await peer.say(PING[7:] + PING)
    assert [await peer.hear(), await peer.hear()] == [PONG, PONG]


@pytest.mark.parametrize(
    ("line", "code", "id_", "message"),
    [
        (b"", "bad_request", None, "This line cannot be read: "),
        (b"hello", "bad_request", None, "This line cannot be read: "),
        (b"GET / HTTP/1.1\r", "bad_request", None, "This line cannot be read: "),
        (b'{"op":"ping","id":1', "bad_request", None, "This line cannot be read: "),
        (b'{"op":"ping","id":"\xff"}', "bad_request", None, "This line cannot be read: "),
        (b'{"op":"ping","id":"\\ud800"}', "bad_request", None, "This line cannot be read: "),
        (b'{"op":"ping","id":NaN}', "bad_request", None, "This line cannot be read: "),
        (DEEP, "bad_request", None, "This line cannot be read: "),
        (b'{"op":"ping","x":' + DEEP, "bad_request", None, "This line cannot be read: "),
        (b"[]", "bad_request", None, 'A request is a JSON object such as {"op":"ping","id":1}.'),
        (b'"ping"', "bad_request", None, "A request is a JSON object such as "),
        (b"{}", "bad_request", None, 'The request has no "op". See docs/protocol.md.'),
        (b'{"id":3}', "bad_request", 3, 'The request has no "op". See docs/protocol.md.'),
        (b'{"op":null,"id":3}', "bad_request", 3, 'The request has no "op". See docs/protocol.md.'),
        (b'{"op":"fly","id":"x"}', "unknown_op", "x", f"There is no operation 'fly'; there are: {', '.join(OPS)}."),
        (b'{"op":["ping"],"id":3}', "unknown_op", 3, "There is no operation \"['ping']\"; there are: "),
        (b'{"op":"ping","id":true}', "bad_request", None, "ping: "),
        (b'{"op":"ping","id":1.5}', "bad_request", None, "ping: "),
        (b'{"op":"ping","id":{}}', "bad_request", None, "ping: "),
        (
            b'{"op":"acquire","id":3,"model":"m"}',
            "bad_request",
            3,
            "acquire: Object missing required field `provider`.",
        ),
        (
            b'{"op":"acquire","id":3,"provider":7,"model":"m"}',
            "bad_request",
            3,
            "acquire: Expected `str`, got `int` - at `$.provider`.",
        ),
        (
            b'{"op":"acquire","id":3,"provider":"a","model":"m","purpose":"fun"}',
            "bad_request",
            3,
            "acquire: Invalid enum value 'fun' - at `$.purpose`.",
        ),
    ],
)
async def test_a_bad_line_is_answered_and_the_connection_goes_on(
    peer: Peer, line: bytes, code: str, id_: object, message: str
) -> None:
    await peer.say(line + b"\n" + PING)
    error = await peer.hear()
    assert (error["type"], error["code"], error["id"]) == ("error", code, id_)
    assert error["message"].startswith(message)
    assert await peer.hear() == PONG


LONG = "x" * 257
REPORT = {"op": "report", "provider": "anthropic", "model": MODEL, "outcome": "ok"}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"op": "ping", "id": LONG}, "id"),
        ({"op": "ping", "id": 2**53 + 1}, "id"),
        ({"op": "ping", "id": 10**4000}, "id"),
        ({"op": "hello", "client": LONG}, "client"),
        ({"op": "hello", "directory": "x" * 4097}, "directory"),
        ({"op": "hello", "pid": -1}, "pid"),
        ({"op": "hello", "pid": 10**30}, "pid"),
        ({"op": "hello", "protocol": 0}, "protocol"),
        ({"op": "acquire", "provider": LONG, "model": "m"}, "provider"),
        ({"op": "acquire", "provider": "a", "model": LONG}, "model"),
        ({"op": "acquire", "provider": "a", "model": "m", "session": LONG}, "session"),
        ({"op": "acquire", "provider": "a", "model": "m", "estimate": -1}, "estimate"),
        ({"op": "acquire", "provider": "a", "model": "m", "estimate": 10**13}, "estimate"),
        (REPORT | {"lease": LONG}, "lease"),
        (REPORT | {"status": -1}, "status"),
        (REPORT | {"status": 1000}, "status"),
        (REPORT | {"started_at": "2026-01-12"}, "started_at"),
        (REPORT | {"started_at": "2026-01-12T12:00:00"}, "started_at"),
        (REPORT | {"started_at": "2026-13-12T12:00:00Z"}, "started_at"),
        (REPORT | {"started_at": "12026-01-12T12:00:00Z"}, "started_at"),
        (REPORT | {"started_at": 1768219200}, "started_at"),
        (REPORT | {"headers": {f"x-{n}": "" for n in range(257)}}, "headers"),
        (REPORT | {"usage": {"input": -1}}, "input"),
        (REPORT | {"usage": {"cost": -0.01}}, "cost"),
        (REPORT | {"usage": {"cost": 1e300}}, "cost"),
        ({"op": "cooldown", "provider": "anthropic", "for_ms": -1}, "for_ms"),
        ({"op": "cooldown", "provider": "anthropic", "for_ms": 10**12}, "for_ms"),
        ({"op": "cooldown", "provider": "anthropic", "for_ms": 1.5}, "for_ms"),
        ({"op": "log", "limit": 0}, "limit"),
        ({"op": "log", "limit": 10_001}, "limit"),
        ({"op": "reset", "what": "everything"}, "what"),
        ({"op": "history", "bucket": "minute"}, "bucket"),
    ],
)
async def test_negative_absurd_and_endless_values_are_refused_by_name(
    peer: Peer, request_: dict[str, Any], field: str
) -> None:
    before = await peer.ask("status")
    await peer.say(request_)
    error = await peer.hear()
    assert (error["type"], error["code"]) == ("error", "bad_request")
    assert f"$.{field}`" in error["message"] or f".{field}`" in error["message"], error
    assert error["id"] is None, "an id that is refused is not sent back"
    assert await peer.ask("status") == before


async def test_a_line_over_the_limit_is_refused_and_ends_the_connection(house: House, peer: Peer) -> None:
    await peer.say(PING)
    with trio.move_on_after(1):
        await peer.say(b'{"op":"ping","id":"' + b"x" * MAX_LINE)
    assert await peer.hear() == PONG
    assert await peer.hear() == {
        "type": "error",
        "id": None,
        "code": "too_large",
        "message": "A line is at most 262144 bytes long; this connection is closed.",
    }
    assert await peer.ended()
    assert (await (await house.peer()).ask("ping"))["type"] == "pong"


async def test_a_line_of_the_limit_is_fine(peer: Peer, nursery: trio.Nursery) -> None:
    line = b'{"op":"ping","id":1,"x":"'
    line += b"x" * (MAX_LINE - len(line) - 2) + b'"}'
    assert len(line) == MAX_LINE
    nursery.start_soon(peer.say, line + b"\n" + PING)
    assert [await peer.hear(), await peer.hear()] == [PONG, PONG]


async def test_a_bug_in_a_handler_ends_this_connection_only(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bystander = await house.peer()
    await bystander.ask("ping")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("there it is")

    monkeypatch.setattr(Ledger, "explain", broken)
    await peer.say(
        {"op": "disable", "id": 1, "provider": "anthropic"}, {"op": "explain", "id": 2, "model": MODEL}, PING
    )
    assert (await peer.hear())["type"] == "done"
    assert await peer.hear() == {
        "type": "error",
        "id": 2,
        "code": "internal",
        "message": "rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed.",
    }
    assert await peer.ended()
    assert "there it is" in caplog.text
    assert not (await bystander.provider())["enabled"], "what came before it has happened"


async def test_a_subscriber_is_told_of_a_bug_too(house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    await peer.ask("subscribe")
    monkeypatch.delattr(Ledger, "explain")
    assert (await peer.ask("explain", model=MODEL))["code"] == "internal"
    assert await peer.ended()
    assert (await (await house.peer()).ask("ping"))["type"] == "pong"


async def test_leases_of_a_connection_that_closes_are_let_go_and_counted(house: House, peer: Peer) -> None:
    agent = await house.peer()
    kept, accepted, done = [await agent.use() for _ in range(3)]
    await agent.report(accepted, "accepted")
    await agent.report(done)
    mine = await peer.use()
    assert (await peer.used(), (await peer.provider())["in_flight"]) == ((2, 2), 3)
    await agent.stream.aclose()
    await house.settled()
    assert (await peer.used(), (await peer.provider())["in_flight"]) == ((3, 1), 1)
    await peer.refuse(kept, after=1)
    assert await peer.used() == (2, 1), "that it was refused is heard late, and counted once"
    await peer.report(mine)


async def test_a_probe_whose_connection_closes_makes_room_for_the_next(house: House, peer: Peer) -> None:
    await peer.refuse(await peer.use(), after=60)
    await trio.sleep(60)
    agent = await house.peer()
    assert (await agent.use())["reason"] == "probe"
    assert (await peer.provider())["state"] == "half_open"
    assert (await peer.use())["provider"] == "openrouter"
    await agent.stream.aclose()
    await house.settled()
    assert (await peer.use())["reason"] == "probe"


async def test_a_lease_that_nobody_reports_is_let_go_when_its_time_is_up(peer: Peer) -> None:
    await peer.use()
    await trio.sleep(LEASE - 1)
    assert await peer.used() == (0, 1)
    await trio.sleep(1)
    assert await peer.used() == (1, 0)


async def test_a_peer_that_reads_nothing_holds_up_nobody(house: House, peer: Peer, nursery: trio.Nursery) -> None:
    silent = await house.peer()
    nursery.start_soon(_flood, silent)
    await house.settled()
    assert (await peer.ask("ping"))["type"] == "pong"
    await silent.stream.aclose()


async def _flood(peer: Peer) -> None:
    request = b'{"op":"status"}\n' * 1000
    with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
        while True:
            await peer.stream.send_all(request)


async def test_a_subscriber_that_reads_nothing_is_let_go(house: House, peer: Peer) -> None:
    silent, attentive = await house.peer(), await house.peer()
    for one in (silent, attentive):
        await one.ask("subscribe", events=["state"])
    silent.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    events = 0
    while (await house.connections()) == 3:
        assert events < 50_000
        await peer.say(*[{"op": "disable", "id": n, "provider": "anthropic"} for n in range(500)])
        for _ in range(500):
            assert (await peer.hear())["type"] == "done"
            assert (await attentive.hear())["event"] == "state"
        events += 500
    assert (await attentive.ask("ping"))["type"] == "pong"


async def test_a_subscriber_that_vanishes_harms_nobody(house: House, peer: Peer) -> None:
    gone = await house.peer()
    await gone.ask("subscribe")
    await gone.stream.aclose()
    await peer.ask("disable", provider="anthropic")
    await house.settled()
    assert await house.connections() == 1


async def test_a_peer_that_hangs_up_before_its_reply_harms_nobody(house: House, peer: Peer) -> None:
    hasty = await house.peer()
    await hasty.say({"op": "status"}, {"op": "disable", "provider": "anthropic"})
    await hasty.stream.aclose()
    await house.settled()
    assert not (await peer.provider())["enabled"]


async def test_who_stops_sending_still_gets_the_answers(peer: Peer) -> None:
    await peer.say(PING * 3)
    await peer.stream.send_eof()
    assert [await peer.hear() for _ in range(3)] == [PONG] * 3
    assert await peer.ended()


@pytest.mark.parametrize("listens", [False, True])
async def test_what_has_arrived_is_answered_before_the_daemon_ends(house: House, peer: Peer, listens: bool) -> None:
    if listens:
        await peer.ask("subscribe")
    use = await peer.use()
    await peer.say({"op": "report", "id": 1, "outcome": "ok", **{k: use[k] for k in ("provider", "model", "lease")}})
    house.daemon.shutdown()
    assert (await peer.hear())["type"] == "recorded"
    assert await peer.ended()
    with trio.fail_after(1):
        await house.stopped.wait()


async def test_whoever_connected_a_moment_before_the_end_is_not_left_hanging(house: House) -> None:
    late = await house.peer()
    await late.say(PING)
    house.daemon.shutdown()
    with trio.fail_after(1):
        await house.stopped.wait()


async def test_whoever_gets_in_while_the_daemon_ends_is_answered_once(house: House) -> None:
    house.daemon.server.drain()
    late = await house.peer()
    await late.say(PING)
    assert await late.hear() == PONG
    assert await late.ended()


async def test_a_peer_that_reads_nothing_delays_the_end_by_less_than_five_seconds(
    house: House, nursery: trio.Nursery
) -> None:
    silent = await house.peer()
    nursery.start_soon(_flood, silent)
    await house.settled()
    house.daemon.shutdown()
    with trio.fail_after(5):
        await house.stopped.wait()
