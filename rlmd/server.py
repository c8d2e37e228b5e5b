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
from rlmd.config import ConfigError
from rlmd.core import orders
from rlmd.core.ledger import Answer
from rlmd.core.model import Notice, Step, Use
from rlmd.protocol import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import Receipt
    from rlmd.outbox import Outbox
    from rlmd.timers import Timers

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
EVENTS_WAITING = 256
"""Events that wait for a subscriber that does not read; then its connection is closed."""


class Host(Protocol):
    """What the server asks of the daemon around it."""

    socket: str
    config_path: str
    config_error: str | None
    started_at: float

    def settings(self) -> protocol.Settings:
        """Return the `[agent]` table."""

    def reload(self) -> str:
        """Read the configuration again; returns a sentence. Raises `ConfigError`, keeping what was in force."""

    def shutdown(self) -> None:
        """Begin to drain and exit."""


class Connection:
    """One client: what it has leased, who it says it is, what it listens to."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.stream = stream
        self.nursery = nursery
        self.leases: set[str] = set()
        self.agent: protocol.Agent | None = None
        self.events: frozenset[str] = frozenset()
        self.outgoing: trio.MemorySendChannel[bytes] | None = None
        """Once it listens to events: replies and events leave in turn through one task."""
        self.broken = False
        """A handler failed: its conversation ends after this reply."""

    def close(self) -> None:
        """End the conversation."""
        self.nursery.cancel_scope.cancel()


class Server:
    """Serves connections until each of them ends. `host` is the daemon around it."""

    def __init__(self, ledger: Ledger, outbox: Outbox, timers: Timers, host: Host, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._timers = timers
        self._host = host
        self._clock = clock
        self._connections: set[Connection] = set()
        self._random = random.Random()  # noqa: S311  (it spreads returns over time, it hides nothing)

    def drain(self) -> None:
        """Take nothing new in: each conversation ends once what has arrived is answered."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.stream.socket.shutdown(trio.socket.SHUT_RD)

    def publish(self, event: protocol.Event) -> None:
        """Hand an event to everyone who listens to its kind. One who does not read is let go."""
        line: bytes | None = None
        for connection in self._connections:
            if connection.outgoing is None or event.event not in connection.events:
                continue
            line = line or protocol.encode(event)
            try:
                connection.outgoing.send_nowait(line)
            except trio.WouldBlock:
                log.warning("a subscriber does not read its events: its connection is closed")
                connection.close()

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
                try:
                    await self._converse(connection)
                finally:
                    self._connections.discard(connection)
                    self._outbox.settle([self._ledger.release(connection.leases, self._clock())])
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
            answers = self._answer(whole, connection)
            if connection.outgoing is not None:
                await connection.outgoing.send(answers)
            elif answers:
                await stream.send_all(answers)
            if connection.broken or (whole and len(whole[-1]) > protocol.MAX_LINE):
                return

    def _answer(self, lines: list[bytes], connection: Connection) -> bytes:
        """Handle the lines of a chunk: one transaction, and the bytes of all replies."""
        steps: list[Step] = []
        answers: list[protocol.AnyReply] = []
        for line in lines:
            try:
                answers.append(self._handle(protocol.decode(line), connection, steps))
            except protocol.BadRequestError as error:
                answers.append(error.reply)
            except Exception:
                log.exception("a request failed; please report this")
                answers.append(_BUG)
                connection.broken = True
                break
        if steps and not self._outbox.settle(steps):
            answers = [_not_durable(r) if isinstance(r, protocol.Recorded) else r for r in answers]
        self._timers.poke()
        return b"".join(map(protocol.encode, answers))

    def _handle(  # noqa: C901, PLR0912  (one match over every message; a branch is a line or two)
        self, request: protocol.AnyRequest, connection: Connection, steps: list[Step]
    ) -> protocol.AnyReply:
        now = self._clock()
        book = self._ledger.book
        id_ = request.id
        try:
            match request:
                case protocol.Acquire():
                    return self._acquire(request, connection, now, steps)
                case protocol.Report():
                    return self._report(request, connection, now, steps)
                case protocol.UsageReport():
                    return self._usage(request, now, steps)
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
                    return self._reload(id_, now, steps)
                case protocol.Shutdown():
                    self._host.shutdown()
                    return protocol.Done(id=id_, message="rlmd is stopping")
                case protocol.Ping():
                    return protocol.Pong(id=id_)
                case _:
                    assert_never(request)
        except orders.UnknownNameError as error:
            return protocol.Error(id=id_, code="not_found", message=str(error))
        except sqlite3.Error as error:
            return protocol.Error(id=id_, code="unavailable", message=f"The state cannot be read now: {error}.")
        steps.append(step)
        return protocol.Done(id=id_, message=step.notices[-1].message)

    def _acquire(
        self, request: protocol.Acquire, connection: Connection, now: float, steps: list[Step]
    ) -> protocol.AnyReply:
        step = self._ledger.acquire(
            request.provider,
            request.model,
            now,
            session=request.session,
            purpose=request.purpose,
            dry_run=request.dry_run,
            estimate=request.estimate,
        )
        if step.facts or step.receipts or step.notices:
            steps.append(step)
        decision = step.reply
        if isinstance(decision, Use) and decision.lease is not None:
            connection.leases.add(decision.lease)
        return replies.decided(decision, request.id, now)

    def _report(
        self, request: protocol.Report, connection: Connection, now: float, steps: list[Step]
    ) -> protocol.AnyReply:
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
            usage=replies.usage(request.usage) if request.usage else None,
            retry=request.retry,
            receipt=self._remembered(request.lease),
        )
        steps.append(step)
        if request.lease is not None and request.outcome != "accepted":
            connection.leases.discard(request.lease)
        return replies.recorded(step.reply, request.id, now)

    def _usage(self, request: protocol.UsageReport, now: float, steps: list[Step]) -> protocol.AnyReply:
        if request.lease is None and (request.provider is None or request.model is None):
            message = 'usage: give the "lease", or the "provider" and the "model".'
            return protocol.Error(id=request.id, code="bad_request", message=message)
        step = self._ledger.meter(
            replies.usage(request.usage),
            now,
            lease=request.lease,
            provider=request.provider or "",
            model=request.model or "",
            receipt=self._remembered(request.lease),
        )
        steps.append(step)
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
            ),
            providers=infos,
            current_provider=book.current,
            model_mapping=status.model_mapping(self._ledger),
            pins=dict(book.pins),
            text=status.text(infos, book.current, book.policy.zone),
        )

    def _subscribe(self, request: protocol.Subscribe, connection: Connection) -> protocol.Subscribed:
        connection.events = frozenset(request.events or protocol.EVENTS)
        if connection.outgoing is None:
            connection.outgoing, incoming = trio.open_memory_channel[bytes](EVENTS_WAITING)
            connection.nursery.start_soon(_send_in_turn, connection.stream, incoming)
        return protocol.Subscribed(id=request.id, events=sorted(connection.events))

    def _reload(self, id_: protocol.Id, now: float, steps: list[Step]) -> protocol.AnyReply:
        try:
            message = self._host.reload()
        except ConfigError as error:
            text = f"{error} The daemon keeps the configuration it has."
            steps.append(Step(notices=[Notice("config", now, text)]))
            return protocol.Error(id=id_, code="bad_request", message=text)
        steps.append(Step(notices=[Notice("config", now, message)]))
        return protocol.Done(id=id_, message=message)


_BUG = protocol.Error(
    code="internal",
    message="rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed.",
)


async def _send_in_turn(stream: trio.SocketStream, lines: trio.MemoryReceiveChannel[bytes]) -> None:
    async for line in lines:
        await stream.send_all(line)


def _not_durable(reply: protocol.Recorded) -> protocol.Error:
    message = (
        "The report is counted in memory and the disk does not take it: send it again with the same lease later. "
        "See `rlmctl doctor`."
    )
    return protocol.Error(id=reply.id, code="not_durable", message=message)


def _until(request: protocol.CooldownOrder, now: float) -> float:
    if request.for_ms is not None:
        return now + request.for_ms / 1000
    if request.until is not None and 0 <= request.until.timestamp() - now <= protocol.YEAR_MS / 1000:
        return request.until.timestamp()
    message = 'cooldown: give "for_ms", or "until" as a time in the coming year.'
    raise protocol.BadRequestError(protocol.Error(id=request.id, code="bad_request", message=message))
