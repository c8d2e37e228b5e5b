"""One client: what it has sent and is to get, what it has leased, what it listens to. It understands no request."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import trio

from rlmd import protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
UNREAD = 1024 * 1024
"""Bytes that wait for a subscriber that does not read; then its connection is closed."""


class Connection:
    """A conversation. Whoever holds it reads and writes at once what can be; the rest waits for a task of its own."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.fd = stream.socket.fileno()
        self.leases: set[str] = set()
        self.agent: protocol.Agent | None = None
        self.events: frozenset[str] = frozenset()
        self.backlog: list[bytes] = []
        """Lines that have arrived and are not answered yet."""
        self.unsent = bytearray()
        """Replies and events that wait for their turn."""
        self.ended = False
        """Nothing more is read of it."""
        self.nursery = nursery
        self._owed = 0
        """Replies that take their time: until they are sent nothing more is read."""
        self._paid = trio.Event()
        self._stream = stream
        self._lines = protocol.Lines()
        self._sending = False
        self._something = trio.Event()
        self._turn = trio.Lock()

    def receive(self) -> bool:
        """Take what has arrived into the backlog, unless something is still owed. Whether there is a whole line."""
        if self.ended or self.unsent or self._owed:
            return False
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self.backlog += self._lines.feed(data)
        return bool(self.backlog)

    def send(self, replies: Iterable[protocol.AnyReply], at: int) -> None:
        """Send replies, as far as that goes at once; they come before what waited from place `at` on."""
        data = b"".join(map(protocol.encode, replies))
        if self.unsent or self._sending:
            self.unsent[at:at] = data
            self._something.set()
            return
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        if sent < len(data):
            self.unsent += data[sent:]
            self._start_sending()

    def subscribe(self, events: frozenset[str]) -> None:
        """Have events of these kinds sent from now on."""
        self.events = events
        self._start_sending()

    def tell(self, line: bytes) -> None:
        """Send an event in its turn. A client that leaves too much unread is let go."""
        self.unsent += line
        self._something.set()
        if len(self.unsent) > UNREAD:
            log.warning("a subscriber does not read its events: its connection is closed")
            self.nursery.cancel_scope.cancel()

    def end(self) -> None:
        """Read nothing more of it, and have whoever waits for that know."""
        self.ended = True
        self.take_no_more()

    def take_no_more(self) -> None:
        """Let what has arrived be the last."""
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(trio.socket.SHUT_RD)

    def owe(self) -> None:
        """Read nothing more until a reply that takes its time is sent."""
        self._owed += 1
        if self._owed == 1:
            self._paid = trio.Event()

    def paid(self) -> None:
        """Go on: the reply has been sent."""
        self._owed -= 1
        if not self._owed:
            self._paid.set()

    async def catch_up(self) -> None:
        """Wait until nothing is owed."""
        while self._owed:
            await self._paid.wait()
        if self.unsent:
            await self._send_unsent()

    def _start_sending(self) -> None:
        self._something.set()
        if not self._sending:
            self._sending = True
            self.nursery.start_soon(self._send)

    async def _send(self) -> None:
        while True:
            await self._something.wait()
            self._something = trio.Event()
            await self._send_unsent()

    async def _send_unsent(self) -> None:
        async with self._turn:
            if self.unsent:
                data, self.unsent = bytes(self.unsent), bytearray()
                await self._stream.send_all(data)
