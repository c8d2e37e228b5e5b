"""One client: what it has sent and is to get, what it has leased, what it listens to. It understands no request."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict

import trio

from rlmd.server import capacity
from rlmd.wire import codec, messages

log = logging.getLogger(__name__)

CHUNK = 64 * 1024


async def linger(stream: trio.SocketStream) -> None:
    """Say no more, and pass over what somebody says who is about to be let go."""
    with trio.move_on_after(capacity.LINGER), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(CHUNK):
            pass


class Connection:
    """A conversation. Whoever holds it reads and writes at once what can be; the rest waits for a task of its own."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.fd = stream.socket.fileno()
        self.leases: OrderedDict[str, None] = OrderedDict()
        """Oldest first. Some may have ended by themselves."""
        self.agent: messages.Agent | None = None
        self.events: frozenset[str] = frozenset()
        self.backlog: list[bytes] = []
        """Lines that have arrived and are not answered yet."""
        self.unsent = bytearray()
        """Replies and events that wait for their turn."""
        self.ended = False
        """Nothing more is read of it."""
        self.gone = False
        """Nothing is sent any more: the client has left, or the stream is closed and its number may be another's."""
        self.nursery = nursery
        self._pauses = 0
        """Replies that take their time: until they are sent nothing more is read."""
        self._reading_resumed = trio.Event()
        self._stream = stream
        self._lines = codec.Lines()
        self._under_way = 0
        """Bytes that are being sent."""
        self._event_bytes = 0
        """Bytes of events in `unsent`."""
        self._watching_line = False
        self._sending = False
        self._more_to_send = trio.Event()
        self._one_sender = trio.Lock()

    def receive(self) -> bool:
        """Take what has arrived into the backlog, unless something is still owed. Whether there is a whole line."""
        if self.unsent or self._under_way or self._pauses:
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
        if self._lines.rest and not self._watching_line:
            self._watching_line = True
            self.nursery.start_soon(self._watch)
        return bool(self.backlog)

    @property
    def unread(self) -> int:
        """How many bytes wait for the client to read."""
        return len(self.unsent) + self._under_way

    def send(self, replies: list[messages.AnyReply]) -> None:
        """Send replies, as far as that goes at once; the rest waits for its turn. Once the client is gone, nothing."""
        if self.gone:
            return
        data = codec.encode_lines(replies)
        if self.unsent or self._sending:
            self.unsent += data
            self._more_to_send.set()
            return
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone = True
            self.end()
            return
        if sent < len(data):
            self.unsent += data[sent:]
            self._start_sending()

    def subscribe(self, events: frozenset[str]) -> None:
        """Have events of these kinds sent from now on."""
        self.events = events
        self._start_sending()

    def push_event(self, line: bytes) -> None:
        """Send an event in its turn. A client that leaves too much unread is let go."""
        if self.gone:
            return
        self.unsent += line
        self._event_bytes += len(line)
        self._more_to_send.set()
        if self._event_bytes > capacity.EVENTS_UNREAD:
            self._drop("does not read its events")

    def end(self) -> None:
        """Heed nothing more of it, and have whoever waits for that know."""
        if not self.ended:
            self.ended = True
            trio.lowlevel.notify_closing(self.fd)

    def fail(self) -> None:
        """End the connection at once, because of a bug that the caller has logged."""
        self.ended = True
        self.nursery.cancel_scope.cancel()

    def take_no_more(self) -> None:
        """Let what has arrived be the last."""
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(trio.socket.SHUT_RD)

    def pause_reading(self) -> None:
        """Read nothing more until a reply that takes its time is sent."""
        self._pauses += 1
        if self._pauses == 1:
            self._reading_resumed = trio.Event()

    def resume_reading(self) -> None:
        """Go on: the reply has been sent."""
        self._pauses -= 1
        if not self._pauses:
            self._reading_resumed.set()

    async def catch_up(self) -> None:
        """Wait until nothing is owed."""
        while self._pauses:
            await self._reading_resumed.wait()
        if self.unsent or self._under_way:
            await self.send_unsent()

    async def close_gracefully(self) -> None:
        """Send what is left, then wait a moment for the client to read it.

        Who still sends when a connection closes is told of that by its system, before what we have told it.
        """
        await self.catch_up()
        await linger(self._stream)

    def _start_sending(self) -> None:
        self._more_to_send.set()
        if not self._sending:
            self._sending = True
            self.nursery.start_soon(self._send)

    async def _send(self) -> None:
        while True:
            await self._more_to_send.wait()
            self._more_to_send = trio.Event()
            await self.send_unsent()

    async def send_unsent(self) -> None:
        """Send what waits; a client that reads nothing of it for `bounds.STUCK` seconds is let go."""
        async with self._one_sender:
            data, self.unsent, self._event_bytes = bytes(self.unsent), bytearray(), 0
            for begin in range(0, len(data), CHUNK):
                self._under_way = len(data) - begin
                with trio.move_on_after(capacity.STUCK) as scope:
                    await self._stream.send_all(data[begin : begin + CHUNK])
                if scope.cancelled_caught:
                    self._drop("does not read its replies")
                    break
            self._under_way = 0

    async def _watch(self) -> None:
        """Let go of a client that begins a line and does not finish it."""
        while rest := self._lines.rest:
            await trio.sleep(capacity.STUCK)
            waits_for_us = self._pauses or self.unread
            if self._lines.rest is rest and not waits_for_us:  # each line has an object of its own
                text = f"A line was begun and not finished within {capacity.STUCK:g} s; this connection is closed."
                self.send([messages.Error(code="bad_request", message=text)])
                self.end()
                return
        self._watching_line = False

    def _drop(self, why: str) -> None:
        log.warning("a client %s: its connection is closed", why)
        self.nursery.cancel_scope.cancel()
