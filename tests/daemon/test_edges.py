"""A failure is its owner's: what raises for one connection or listener costs no other its reply, at whatever place."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from house import MODEL, House, Peer

from rlmd.wire import codec, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlmd.server.connection import Connection

    Break = Callable[[House, Connection, pytest.MonkeyPatch], None]

OTHERS = 5


class BrokenError(Exception):
    """What no code of ours raises."""


def broken(*_: object, **__: object) -> Any:
    raise BrokenError


def decode(house: House, victim: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    del house, victim
    whole = codec.decode

    def one_fails(line: bytes) -> Any:
        return broken() if b"victim" in line else whole(line)

    monkeypatch.setattr(codec, "decode", one_fails)


def handle(house: House, victim: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = house.daemon.server._dispatch
    whole = dispatch._report

    def one_fails(request: messages.Report, connection: Connection, now: float) -> Any:
        return broken() if connection is victim else whole(request, connection, now)

    monkeypatch.setattr(dispatch, "_report", one_fails)


def encode(house: House, victim: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = house.daemon.server._dispatch
    whole = dispatch.handle

    def one_fails(request: messages.AnyRequest, connection: Connection) -> Any:
        return object() if connection is victim else whole(request, connection)

    monkeypatch.setattr(dispatch, "handle", one_fails)


def receive(house: House, victim: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    del house
    monkeypatch.setattr(victim, "receive", broken)


def send(house: House, victim: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    del house
    monkeypatch.setattr(victim, "send", broken)


@pytest.mark.parametrize("at", [receive, decode, handle, encode, send], ids=lambda at: at.__name__)
@pytest.mark.parametrize("held", [False, True], ids=["at once", "after a checkpoint"])
async def test_one_connection_fails_and_all_others_of_its_batch_are_answered(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: Break, *, held: bool
) -> None:
    peers = [await introduced(house, str(n)) for n in range(OTHERS + 1)]
    victim, *others = peers
    at_once(peers)
    at(house, connection_of(house, "0"), monkeypatch)
    if held:
        with house.commits_paused():
            await house.settled()
            assert not any(unread(peer) for peer in others)
    replies = [await peer.hear() for peer in others]
    assert [reply["type"] for reply in replies] == ["recorded"] * OTHERS
    assert len(tracebacks(caplog)) == 1
    await gone_after_its_replies(victim)
    monkeypatch.undo()
    assert (await others[0].provider())["request_count"] == OTHERS + (at is send)
    assert await house.connections() == OTHERS


@pytest.mark.parametrize("listener", ["server", "notifier", "service manager", "one subscriber", "its encoding"])
async def test_a_listener_that_fails_costs_nobody_a_reply_nor_another_listener_the_event(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, listener: str
) -> None:
    peers = [await introduced(house, str(n)) for n in range(OTHERS)]
    subscriber, failing = await introduced(house, "subscriber"), await introduced(house, "failing")
    for one in (subscriber, failing):
        await one.ask("subscribe", events=["state"])
    daemon = house.daemon
    taken: list[messages.Event] = []
    daemon.outbox.listen(taken.append)
    listeners = {"server": 0, "notifier": 1, "service manager": 2}
    if listener in listeners:
        daemon.outbox._listeners[listeners[listener]] = broken
    elif listener == "one subscriber":
        monkeypatch.setattr(connection_of(house, "failing"), "push_event", broken)
    else:
        monkeypatch.setattr(codec, "encode", broken)
    at_once(peers, outcome="error", status=429, headers={"retry-after": "60"})
    replies = [await peer.hear() for peer in peers]
    assert [reply["type"] for reply in replies] == ["recorded"] * OTHERS
    assert [event.event for event in taken] == ["state"]
    assert len(tracebacks(caplog)) == 1
    if listener not in {"server", "its encoding"}:
        assert (await subscriber.hear())["event"] == "state"


def at_once(peers: list[Peer], **report: Any) -> None:
    """Send a report of each, the first one's as the victim's, before the daemon's turn comes."""
    for n, peer in enumerate(peers):
        message = {"op": "report", "id": n, "provider": "anthropic", "model": MODEL, "outcome": "ok"}
        message |= {"session": "victim" if n == 0 else f"s{n}", **report}
        os.write(peer.stream.socket.fileno(), json.dumps(message).encode() + b"\n")


async def introduced(house: House, name: str) -> Peer:
    peer = await house.peer()
    await peer.ask("hello", client=name)
    return peer


def connection_of(house: House, name: str) -> Connection:
    """Find the daemon's end of a connection."""
    return next(c for c in house.daemon.server._connections if c.agent is not None and c.agent.client == name)


def unread(peer: Peer) -> bool:
    return bool(select.select([peer.stream.socket], [], [], 0)[0])


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.exc_info]


async def gone_after_its_replies(peer: Peer) -> None:
    with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
        while await peer.stream.receive_some(65_536):
            pass
    await peer.stream.aclose()


# While commits are held


@contextlib.contextmanager
def no_number_free_below(limit: int) -> Iterator[None]:
    """Have no free descriptor below a number: the next one that is closed is the next one that is used."""
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < limit:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    os.close(taken.pop())
    yield
    for number in taken:
        os.close(number)


async def test_a_reply_to_a_connection_that_has_closed_goes_to_nobody_else(house: House) -> None:
    leaving = await introduced(house, "leaving")
    connection = connection_of(house, "leaving")
    other = Peer(trio.SocketStream(trio.socket.socket(socket.AF_UNIX)))  # before: it takes a number of this process
    house._peers.append(other)
    at_once([leaving])
    with no_number_free_below(connection.fd), house.commits_paused():
        await house.settled()
        connection.fail()
        await house.settled()
        await other.stream.socket.connect(str(house.place.paths.socket))
        await house.settled()
        (theirs,) = house.daemon.server._connections
        assert theirs.fd == connection.fd, "the number is used again"
    assert await other.ask("ping") == {"type": "pong"}
    connection.push_event(b'{"type":"event"}\n')
    assert not connection.unsent
    assert (await other.provider())["request_count"] == 1, "what it reported is counted"


async def test_nothing_is_folded_while_somebody_else_writes(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlmd.store.database.FOLD_AT", 1)
    store = house.daemon._store
    folded: list[bool] = []
    monkeypatch.setattr(store, "fold", lambda: folded.append(store.paused))

    async def history(request: messages.HistoryQuery) -> messages.AnyReply:
        return messages.History(id=request.id, bucket="hour", rows=[], kept_going=0, not_waited_ms=0)

    monkeypatch.setattr(house.daemon, "history", history)
    await peer.report(await peer.use())
    folded.clear()
    with house.commits_paused():
        await peer.say({"op": "history", "id": 1})
        await house.settled()
        house.daemon.outbox.tidy()
        await (await house.peer()).stream.aclose()
        await house.settled()
    with house.commits_paused():  # before anybody's turn has come
        await house.settled()
        assert not folded[1:]
    assert (await peer.hear())["type"] == "history"
    assert folded
    assert not any(folded)
