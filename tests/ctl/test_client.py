"""The client against peers that behave, and against those that do not."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from rlmd.client.connection import (
    Client,
    DaemonHangsError,
    DaemonNotRunningError,
    DaemonRefusedError,
    DaemonUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def peer(root: Path, *answers: bytes) -> Iterator[Path]:
    """Serve one connection: each line that comes in gets the next answer; then the connection ends."""
    path = root / "s"

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for answer in answers:
                lines.readline()
                if answer:
                    connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join()


def test_a_reply_comes_without_its_id(root: Path) -> None:
    with peer(root, b'{"type":"pong","id":1}\n') as path, Client(path) as client:
        assert client.request("ping") == {"type": "pong"}


def test_a_field_that_is_none_is_not_sent(root: Path) -> None:
    path = root / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with Client(path, deadline=0.01) as client, pytest.raises(DaemonHangsError):
            client.request("pin", provider=None, model="m")
        connection, _ = listener.accept()
        with connection:
            assert json.loads(connection.recv(1000)) == {"op": "pin", "id": 1, "model": "m"}


def test_a_reply_may_come_in_pieces_and_many_at_once(root: Path) -> None:
    pieces = [b'{"type":"po', b'ng","id":1}\n{"type":"pong","id":2,"n":2}\n']
    with peer(root, *pieces, b"") as path, Client(path) as client:
        client._socket.sendall(b"\n")  # has the peer send its second piece
        assert client.request("ping") == {"type": "pong"}
        assert client.request("ping") == {"type": "pong", "n": 2}


def test_an_error_reply_is_raised_with_its_code(root: Path) -> None:
    answer = b'{"type":"error","id":1,"code":"not_found","message":"no such provider"}\n'
    with peer(root, answer) as path, Client(path) as client, pytest.raises(DaemonRefusedError) as caught:
        client.request("enable", provider="x")
    assert (str(caught.value), caught.value.code) == ("no such provider", "not_found")


def test_an_error_without_an_id_is_meant_for_us_too(root: Path) -> None:
    answer = b'{"type":"error","id":null,"code":"unauthorized","message":"not yours"}\n'
    with (
        peer(root, answer) as path,
        Client(path) as client,
        pytest.raises(DaemonRefusedError, match="not yours"),
    ):
        client.request("ping")


def test_events_between_replies_are_kept_for_later(root: Path) -> None:
    event = b'{"type":"event","event":"switched","at":"2026-01-12T17:30:00.000Z","message":"m"}\n'
    with (
        peer(root, b'{"type":"subscribed","id":1,"events":[]}\n', event + b'{"type":"pong","id":2}\n') as path,
        Client(path) as client,
    ):
        client.request("subscribe")
        assert client.request("ping") == {"type": "pong"}
        assert next(client.events())["event"] == "switched"


def test_a_reply_that_comes_too_late_is_not_taken_for_the_next_one(root: Path) -> None:
    late = b'{"type":"pong","id":1}\n{"type":"status","id":2}\n'
    with peer(root, b"", late) as path, Client(path, deadline=0.01) as client:
        with pytest.raises(DaemonHangsError):
            client.request("ping")
        client.deadline = 5
        assert client.request("status") == {"type": "status"}


def test_no_socket_means_not_running(root: Path) -> None:
    with pytest.raises(DaemonNotRunningError) as caught:
        Client(root / "s")
    assert str(caught.value) == f"The daemon is not running: no socket is at {root}/s."
    assert caught.value.mend == "rlmctl start"


def test_a_socket_left_behind_means_not_running(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(root / "s"))
    with pytest.raises(DaemonNotRunningError, match="nobody listens there") as caught:
        Client(root / "s")
    assert caught.value.mend == "rlmctl start"


def test_who_finds_a_queue_waits_for_their_turn(root: Path) -> None:
    path = root / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(DaemonHangsError):
            Client(path, deadline=0.05)

        def let_one_in() -> None:
            listener.accept()[0].close()

        letting_in = threading.Timer(0.1, let_one_in)
        letting_in.start()
        Client(path).close()
        letting_in.join()


def test_silence_ends_at_the_deadline(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        listener.listen()
        with Client(root / "s", deadline=0.05) as client, pytest.raises(DaemonHangsError) as caught:
            client.request("ping")
    assert str(caught.value) == f"The daemon at {root}/s hangs: it did not answer within 0.05 s."
    assert caught.value.mend == "rlmctl restart"


def test_a_connection_that_ends_means_that_the_daemon_died(root: Path) -> None:
    with peer(root, b"") as path, Client(path) as client, pytest.raises(DaemonNotRunningError, match="stopped or died"):
        client.request("ping")


def test_something_else_behind_the_socket_is_said_to_be_so(root: Path) -> None:
    with peer(root, b"220 mail\n") as path, Client(path) as client, pytest.raises(DaemonUnreachableError) as caught:
        client.request("ping")
    assert str(caught.value) == f"What answers at {root}/s is no rlmd: it sent b'220 mail'."


def test_a_socket_that_may_not_be_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who runs the tests as root may open everything: so the system's answer is made up.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DaemonUnreachableError) as caught:
        Client(root / "s")
    assert str(caught.value) == f"The socket {root}/s may not be opened: it or a directory above it is closed to you."
    assert caught.value.mend == "rlmctl doctor"
