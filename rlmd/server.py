"""Answers requests: one connection a task, one match over the request. It owns who is connected and who listens.

All requests of a chunk are handled together: their steps become durable in one transaction, then their replies
leave in one send.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
from typing import TYPE_CHECKING, Protocol, assert_never

import trio

from rlmd import __version__, peer, protocol, replies, status
from rlmd.core import orders
from rlmd.core.ledger import Answer
from rlmd.core.model import Use
from rlmd.protocol import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import Receipt, Step
    from rlmd.notify import Notifier
    from rlmd.outbox import Outbox
    from rlmd.timers import Timers

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
UNREAD = 1024 * 1024
"""Bytes that wait for a subscriber that does not read; then its connection is closed."""


class Host(Protocol):
    """What the server asks of the daemon around it."""

    socket: str
    config_path: str
    config_error: str | None
    started_at: float
    notifier: Notifier

    def settings(self) -> protocol.Settings:
        """Return the `[agent]` table."""

    def reload(self) -> Step:
        """Read the configuration again and tell; `config_error` says whether what was in force stays."""

    def shutdown(self) -> None:
        """Begin to drain and exit."""


class Connection:
    """One client: what it has leased, who it says it is, what it listens to."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.stream = stream
        self.leases: set[str] = set()
        self.agent: protocol.Agent | None = None
        self.events: frozenset[str] = frozenset()
        self.listens = False
        """It has subscribed: replies and events wait in `unsent` for their turn."""
        self.unsent = bytearray()
        self.broken = False
        """A handler failed: its conversation ends after this reply."""
        self._nursery = nursery
        self._something = trio.Event()
        self._turn = trio.Lock()

    def subscribe(self, events: frozenset[str]) -> None:
        """Have events of these kinds sent from now on."""
        self.events = events
        if not self.listens:
            self.listens = True
            self._nursery.start_soon(self._send_events)

    def tell(self, line: bytes) -> None:
        """Send an event in its turn. A client that leaves too much unread is let go."""
        self.unsent += line
        self._something.set()
        if len(self.unsent) > UNREAD:
            log.warning("a subscriber does not read its events: its connection is closed")
            self._nursery.cancel_scope.cancel()

    async def send_unsent(self) -> None:
        """Send what waits, in order."""
        async with self._turn:
            if self.unsent:
                data, self.unsent = bytes(self.unsent), bytearray()
                await self.stream.send_all(data)

    async def _send_events(self) -> None:
        while True:
            await self._something.wait()
            self._something = trio.Event()
            await self.send_unsent()


class Server:
    """Serves connections until each of them ends. `host` is the daemon around it."""

    def __init__(self, ledger: Ledger, outbox: Outbox, timers: Timers, host: Host, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._timers = timers
        self._host = host
        self._clock = clock
        self._connections: set[Connection] = set()
        self._draining = False
        self._random = random.Random()  # noqa: S311  (it spreads returns over time, it hides nothing)

    def drain(self) -> None:
        """Take nothing new in: each conversation ends once what has arrived is answered."""
        self._draining = True
        for connection in self._connections:
            _take_no_more(connection)

    def publish(self, event: protocol.Event) -> None:
        """Hand an event to everyone who listens to its kind."""
        line: bytes | None = None
        for connection in self._connections:
            if event.event in connection.events:
                line = line or protocol.encode(event)
                connection.tell(line)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Hold one conversation. A bug in a handler ends the connection, not the daemon."""
        if not peer.is_allowed(stream.socket):
            log.warning("a connection of another user was refused")
            refusal = protocol.Error(code="unauthorized", message="This rlmd serves its owner only.")
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(protocol.encode(refusal))
            await stream.aclose()
            return
        try:
            async with stream, trio.open_nursery() as nursery:
                connection = Connection(stream, nursery)
                self._connections.add(connection)
                if self._draining:
                    _take_no_more(connection)
                try:
                    await self._converse(connection)
                finally:
                    self._connections.discard(connection)
                    self._outbox.add(self._ledger.release(connection.leases, self._clock()))
                    self._outbox.settle()
                    self._timers.poke()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away")
        except* Exception:
            log.exception("a connection failed; please report this")

    async def _converse(self, connection: Connection) -> None:
        lines = protocol.Lines()
        stream = connection.stream
        while data := await stream.receive_some(CHUNK):
            whole = lines.feed(data)
            waiting = len(connection.unsent)
            answers = self._answer(whole, connection)
            if connection.listens:
                connection.unsent[waiting:waiting] = answers  # before the events that they led to
                await connection.send_unsent()
            elif answers:
                await stream.send_all(answers)
            if connection.broken or (whole and len(whole[-1]) > protocol.MAX_LINE):
                return

    def _answer(self, lines: list[bytes], connection: Connection) -> bytes:
        """Handle the lines of a chunk: one transaction, and the bytes of all replies."""
        answers: list[protocol.AnyReply] = []
        lasting: set[int] = set()
        for line in lines:
            try:
                request = protocol.decode(line)
            except protocol.BadRequestError as error:
                answers.append(error.reply)
                continue
            if isinstance(request, _LASTING):
                lasting.add(len(answers))
            try:
                answers.append(self._handle(request, connection))
            except Exception:
                log.exception("a request failed; please report this")
                answers.append(protocol.Error(id=request.id, code="internal", message=_BUG))
                connection.broken = True
                break
        if not self._outbox.settle():
            answers = [_not_durable(reply) if n in lasting else reply for n, reply in enumerate(answers)]
        self._timers.poke()
        return b"".join(map(protocol.encode, answers))

    def _handle(  # noqa: C901, PLR0912  (one match over every message; a branch is a line or two)
        self, request: protocol.AnyRequest, connection: Connection
    ) -> protocol.AnyReply:
        now = self._clock()
        book = self._ledger.book
        id_ = request.id
        try:
            match request:
                case protocol.Acquire():
                    return self._acquire(request, connection, now)
                case protocol.Report():
                    return self._report(request, connection, now)
                case protocol.UsageReport():
                    return self._usage(request, now)
                case protocol.Hello():
                    return self._hello(request, connection, now)
                case protocol.StatusQuery():
                    return self._status(id_, now)
                case protocol.Explain():
                    return status.explained(self._ledger, request.model, request.session, now, id_)
                case protocol.LogQuery():
                    since = request.since.timestamp() if request.since else 0.0
                    return protocol.Log(id=id_, events=self._outbox.events(since, request.limit))
                case protocol.HistoryQuery():
                    message = "This version keeps no usage history; `rlmctl log` shows the events."
                    return protocol.Error(id=id_, code="unavailable", message=message)
                case protocol.Reset():
                    step = orders.reset(book, request.what, request.provider, now)
                case protocol.CooldownOrder():
                    until = _until(request, now)
                    step = orders.rest(book, request.provider, request.model, until, request.reason, now)
                case protocol.Enable():
                    step = orders.enable(book, request.provider, now, enabled=True)
                case protocol.Disable():
                    step = orders.enable(book, request.provider, now, enabled=False)
                case protocol.Pin():
                    step = orders.pin(book, request.provider, request.model, now)
                case protocol.Subscribe():
                    return self._subscribe(request, connection)
                case protocol.Reload():
                    return self._reload(id_)
                case protocol.Shutdown():
                    self._host.shutdown()
                    return protocol.Done(id=id_, message="rlmd is stopping")
                case protocol.NotifyTest():
                    return self._notify_test(id_)
                case protocol.Ping():
                    return protocol.Pong(id=id_)
                case _:
                    assert_never(request)
        except protocol.BadRequestError as error:
            return error.reply
        except orders.UnknownNameError as error:
            return protocol.Error(id=id_, code="not_found", message=str(error))
        except sqlite3.Error as error:
            return protocol.Error(id=id_, code="unavailable", message=f"The state cannot be read now: {error}.")
        self._outbox.add(step)
        return protocol.Done(id=id_, message=step.notices[-1].message)

    def _acquire(self, request: protocol.Acquire, connection: Connection, now: float) -> protocol.AnyReply:
        step = self._ledger.acquire(
            request.provider,
            request.model,
            now,
            session=request.session,
            purpose=request.purpose,
            dry_run=request.dry_run,
            estimate=request.estimate,
        )
        self._outbox.add(step)
        decision = step.reply
        if isinstance(decision, Use) and decision.lease is not None:
            connection.leases.add(decision.lease)
        return replies.decided(decision, request.id, now)

    def _report(self, request: protocol.Report, connection: Connection, now: float) -> protocol.AnyReply:
        step = self._ledger.report(
            request.provider,
            request.model,
            request.outcome,
            now,
            rand=self._random.random(),
            answer=Answer(request.status, request.headers, request.body, request.message),
            lease=request.lease,
            session=request.session,
            started_at=request.started_at.timestamp() if request.started_at else None,
            usage=request.usage,
            retry=request.retry,
            receipt=self._remembered(request.lease),
        )
        self._outbox.add(step)
        if request.lease is not None and request.outcome != "accepted":
            connection.leases.discard(request.lease)
        return replies.recorded(step.reply, request.id, now)

    def _usage(self, request: protocol.UsageReport, now: float) -> protocol.AnyReply:
        if request.lease is None and (request.provider is None or request.model is None):
            message = 'usage: give the "lease", or the "provider" and the "model".'
            return protocol.Error(id=request.id, code="bad_request", message=message)
        step = self._ledger.meter(
            request.usage,
            now,
            lease=request.lease,
            provider=request.provider or "",
            model=request.model or "",
            receipt=self._remembered(request.lease),
        )
        self._outbox.add(step)
        return replies.recorded(step.reply, request.id, now)

    def _remembered(self, lease: str | None) -> Receipt | None:
        if lease is None or lease in self._ledger.leases:
            return None
        return self._outbox.receipt(lease)

    def _hello(self, request: protocol.Hello, connection: Connection, now: float) -> protocol.AnyReply:
        connection.agent = protocol.Agent(
            client=request.client,
            version=request.version,
            pid=request.pid,
            directory=request.directory,
            since=rfc3339(now),
        )
        return protocol.Welcome(
            id=request.id,
            server="rlmd",
            version=__version__,
            protocol=protocol.VERSION,
            pid=os.getpid(),
            settings=self._host.settings(),
        )

    def _status(self, id_: protocol.Id, now: float) -> protocol.Status:
        book = self._ledger.book
        agents = [c.agent for c in self._connections if c.agent is not None and c.agent.client != "rlmctl"]
        infos = status.providers(self._ledger, now)
        return protocol.Status(
            id=id_,
            daemon=protocol.DaemonInfo(
                pid=os.getpid(),
                version=__version__,
                started_at=rfc3339(self._host.started_at),
                socket=self._host.socket,
                durable=self._outbox.durable,
                agents=len(agents),
                config=self._host.config_path,
                config_error=self._host.config_error,
                clients=agents,
                notify=self._host.notifier.infos(),
            ),
            providers=infos,
            current_provider=book.current,
            model_mapping=status.model_mapping(self._ledger),
            pins=dict(book.pins),
            text=status.text(infos, book.current, book.policy.zone),
        )

    def _subscribe(self, request: protocol.Subscribe, connection: Connection) -> protocol.Subscribed:
        connection.subscribe(frozenset(protocol.EVENTS if request.events is None else request.events))
        return protocol.Subscribed(id=request.id, events=sorted(connection.events))

    def _notify_test(self, id_: protocol.Id) -> protocol.AnyReply:
        count = self._host.notifier.test()
        if not count:
            message = "There is no notification target: name one under [notify] in the configuration."
            return protocol.Error(id=id_, code="not_found", message=message)
        return protocol.Done(id=id_, message=f"a test message is on its way to {count} targets")

    def _reload(self, id_: protocol.Id) -> protocol.AnyReply:
        step = self._host.reload()
        self._outbox.add(step)
        message = step.notices[-1].message
        if self._host.config_error is not None:
            return protocol.Error(id=id_, code="bad_request", message=message)
        return protocol.Done(id=id_, message=message)


_BUG = "rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed."


def _take_no_more(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        connection.stream.socket.shutdown(trio.socket.SHUT_RD)


_LASTING = (
    protocol.Report,
    protocol.UsageReport,
    protocol.Reset,
    protocol.CooldownOrder,
    protocol.Enable,
    protocol.Disable,
    protocol.Pin,
)
"""What is known for ever once it is acknowledged."""


def _not_durable(reply: protocol.AnyReply) -> protocol.AnyReply:
    match reply:
        case protocol.Recorded():
            message = (
                "The report is counted in memory and the disk does not take it: send it again with the same lease "
                "later. See `rlmctl doctor`."
            )
        case protocol.Done():
            message = f"{reply.message}, but only until rlmd ends: the disk does not take it. See `rlmctl doctor`."
        case _:
            return reply
    return protocol.Error(id=reply.id, code="not_durable", message=message)


def _until(request: protocol.CooldownOrder, now: float) -> float:
    if request.for_ms is not None:
        return now + request.for_ms / 1000
    if request.until is not None and 0 <= request.until.timestamp() - now <= protocol.YEAR_MS / 1000:
        return request.until.timestamp()
    message = 'cooldown: give "for_ms", or "until" as a time in the coming year.'
    raise protocol.BadRequestError(protocol.Error(id=request.id, code="bad_request", message=message))
