"""One client's connection: bytes in and out, its leases, its subscriptions. It understands no request."""

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
    """End our side of a stream, and discard for `capacity.LINGER` seconds what the client still sends."""
    with trio.move_on_after(capacity.LINGER), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(CHUNK):
            pass


class Connection:
    """A conversation. Reads and writes happen at once as far as they can; a task of its own sends the rest."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.fd = stream.socket.fileno()
        self.leases: OrderedDict[str, None] = OrderedDict()
        """Oldest first. Some leases may have expired."""
        self.agent: messages.Agent | None = None
        self.events: frozenset[str] = frozenset()
        self.backlog: list[bytes] = []
        """Lines that have arrived and are not answered."""
        self.unsent = bytearray()
        """Replies and events that wait to be sent."""
        self.ended = False
        """Nothing more is read from the client."""
        self.gone = False
        """Nothing more is sent. The stream may be closed, and its descriptor may belong to another connection."""
        self.nursery = nursery
        self._pauses = 0
        """Replies that take time. While there is one, nothing is read."""
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
        """Read into the backlog, unless reading is paused or replies are unsent. True where a whole line is there."""
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
        """Bytes that wait for the client to read them."""
        return len(self.unsent) + self._under_way

    def send(self, replies: list[messages.AnyReply]) -> None:
        """Send replies: at once as far as the socket takes them, the rest later. Nothing where the client is gone."""
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
        """Send events of these kinds from now on."""
        self.events = events
        self._start_sending()

    def push_event(self, line: bytes) -> None:
        """Send an event after all that waits. A client that leaves `capacity.EVENTS_UNREAD` bytes unread is dropped."""
        if self.gone:
            return
        self.unsent += line
        self._event_bytes += len(line)
        self._more_to_send.set()
        if self._event_bytes > capacity.EVENTS_UNREAD:
            self._drop("does not read its events")

    def end(self) -> None:
        """Read nothing more from the client, and wake the task that waits for its bytes."""
        if not self.ended:
            self.ended = True
            trio.lowlevel.notify_closing(self.fd)

    def fail(self) -> None:
        """End the connection at once, because of a bug that the caller has logged."""
        self.ended = True
        self.nursery.cancel_scope.cancel()

    def take_no_more(self) -> None:
        """Let the bytes that have arrived be the last."""
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(trio.socket.SHUT_RD)

    def pause_reading(self) -> None:
        """Read nothing more until a reply that takes time is sent."""
        self._pauses += 1
        if self._pauses == 1:
            self._reading_resumed = trio.Event()

    def resume_reading(self) -> None:
        """Read again: the reply that took time has been sent."""
        self._pauses -= 1
        if not self._pauses:
            self._reading_resumed.set()

    async def catch_up(self) -> None:
        """Wait until reading is not paused, and send what is unsent."""
        while self._pauses:
            await self._reading_resumed.wait()
        if self.unsent or self._under_way:
            await self.send_unsent()

    async def close_gracefully(self) -> None:
        """Send what is unsent, then wait a moment for the client to read it.

        A client that still sends when its connection closes gets an error from its system, and never our last reply.
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
        """Send what is unsent. A client that reads nothing for `capacity.STUCK` seconds is dropped."""
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
        """End the connection of a client that begins a line and does not finish it."""
        while rest := self._lines.rest:
            await trio.sleep(capacity.STUCK)
            waits_for_us = self._pauses or self.unread
            if self._lines.rest is rest and not waits_for_us:  # each line is another object
                text = f"A line was begun and not finished within {capacity.STUCK:g} s; this connection is closed."
                self.send([messages.Error(code="bad_request", message=text)])
                self.end()
                return
        self._watching_line = False

    def _drop(self, why: str) -> None:
        log.warning("a client %s: its connection is closed", why)
        self.nursery.cancel_scope.cancel()
