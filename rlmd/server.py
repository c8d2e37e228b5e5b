"""Answers requests: one connection a task, one match over the request. It owns who is connected and who listens.

All requests of a chunk are handled together: their steps become durable in one transaction, then their replies
leave in one send.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import select
import sqlite3
import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, assert_never

import msgspec
import trio

from rlmd import __version__, bounds, peer, protocol, replies, rescue, status
from rlmd.connection import Connection, linger
from rlmd.core import orders
from rlmd.core.adopt import Found, adopt
from rlmd.core.ledger import Answer
from rlmd.core.model import Use
from rlmd.protocol import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import Receipt, Step
    from rlmd.notify import Notifier
    from rlmd.outbox import Outbox
    from rlmd.timers import Timers

log = logging.getLogger(__name__)

ROUNDS = 16
"""Times in a row that all who have asked are answered before anything else gets a turn. Whoever asks again at once is
then answered without a way through trio's scheduler, which costs as much as a decision."""


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

    async def history(self, request: protocol.HistoryQuery) -> protocol.AnyReply:
        """Look usage up, away from everything else."""

    def take_over(self) -> str:
        """Put the state that lies beside the database in its place; say where the old one is.

        Raises `OSError`, and what is `rescue.UNREADABLE`; nothing has changed then.
        """

    def shutdown(self) -> None:
        """Begin to drain and exit."""


class _Answers(NamedTuple):
    """What a connection is told in one turn."""

    connection: Connection
    replies: list[protocol.AnyReply]
    lasting: set[int]
    """Those of them that promise something for ever."""


class Server:
    """Serves connections until each of them ends. `host` is the daemon around it."""

    def __init__(self, ledger: Ledger, outbox: Outbox, timers: Timers, host: Host, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._timers = timers
        self._host = host
        self._clock = clock
        self._connections: set[Connection] = set()
        self._by_fd: dict[int, Connection] = {}
        # What epoll costs depends on those who ask, not on all who are connected; macOS has none.
        self._poll = select.epoll() if sys.platform == "linux" else select.poll()
        self._room = bounds.connections()
        self._refused = 0
        """How many are being refused just now."""
        self._held: list[_Answers] = []
        self._released = trio.Event()
        self._released.set()
        self._watching: set[Connection] = set()
        """Those who are to be told of the next change to what status shows."""
        self._to_settle = False
        """Something else than an acquire has been asked in this turn."""
        self._draining = False
        self._random = random.Random()  # noqa: S311  (it spreads returns over time, it hides nothing)

    def drain(self) -> None:
        """Take nothing new in: each conversation ends once what has arrived is answered."""
        self._draining = True
        for connection in self._connections:
            connection.take_no_more()

    def publish(self, event: protocol.Event) -> None:
        """Hand an event to everyone who listens to its kind."""
        line: bytes | None = None
        for connection in self._connections:
            if event.event in connection.events:
                line = line or protocol.encode(event)
                connection.tell(line)
        self._tell_watchers()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Hold one conversation. A bug in a handler ends the connection, not the daemon."""
        if not peer.is_allowed(stream.socket):
            log.warning("a connection of another user was refused")
            await self._refuse(stream, protocol.Error(code="unauthorized", message="This rlmd serves its owner only."))
            return
        if len(self._connections) >= self._room:
            await self._refuse(stream, protocol.Error(code="unavailable", message=_FULL.format(self._room)))
            return
        try:
            async with stream, trio.open_nursery() as nursery:
                connection = Connection(stream, nursery)
                self._join(connection)
                try:
                    await self._converse(connection)
                finally:
                    self._leave(connection)
                    await self._release(connection)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away")
        except* Exception:
            log.exception("a connection failed; please report this")

    async def _refuse(self, stream: trio.SocketStream, refusal: protocol.Error) -> None:
        """Say why, and wait until that is read unless very many are being refused."""
        self._refused += 1
        try:
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(protocol.encode(refusal))
                if self._refused <= bounds.DOORSTEP:
                    await linger(stream)
        finally:
            self._refused -= 1

    def _join(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._by_fd[connection.fd] = connection
        self._poll.register(connection.fd, select.POLLIN)
        if self._draining:
            connection.take_no_more()

    def _leave(self, connection: Connection) -> None:
        self._poll.unregister(connection.fd)
        del self._by_fd[connection.fd]
        self._connections.discard(connection)
        self._watching.discard(connection)

    async def _release(self, connection: Connection) -> None:
        """Let go of what it has leased; of very many not all at once, because others wait."""
        many = len(connection.leases) > bounds.RELEASED
        with trio.CancelScope(shield=True):
            while True:
                some = list(islice(connection.leases, bounds.RELEASED))
                for lease in some:
                    del connection.leases[lease]
                self._outbox.add(self._ledger.release(some, self._clock()))
                self._outbox.settle()
                self._outbox.tidy()
                self._timers.poke()
                self._tell_watchers()
                if not connection.leases:
                    break
                await trio.lowlevel.checkpoint()
        if many:
            gc.collect()  # it also lets go of what Python keeps for more of the same

    def _tell_watchers(self) -> None:
        """Tell those who watch, once each: the next status that one asks for has it told of the next change."""
        if self._watching:
            event = protocol.Event(event="changed", at=rfc3339(self._clock()), message="the status has changed")
            line = protocol.encode(event)
            watching, self._watching = self._watching, set()
            for connection in watching:
                connection.tell(line)

    def _let_watch(self, connection: Connection) -> None:
        """Have who looks now told of the next change, if it asked for that."""
        if "changed" in connection.events:
            self._watching.add(connection)

    async def _converse(self, connection: Connection) -> None:
        while not connection.ended:
            await connection.catch_up()
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(connection.fd)
                self._answer_all()
        await connection.part()

    def _answer_all(self) -> None:
        """Answer everyone who has asked by now, not only whose task this is: all that is new is made durable at once.

        Then again, while somebody has asked in the meantime. Who was answered here finds nothing to do when its own
        turn comes.
        """
        for _ in range(ROUNDS):
            heard = (self._by_fd[fd] for fd, _ in self._poll.poll(0))
            asking = [connection for connection in heard if connection.receive()]
            if not asking:
                return
            self._answer(asking)

    def _answer(self, connections: list[Connection]) -> None:
        """Handle what these connections have asked; then commit, then the replies."""
        self._to_settle = False
        answers = [self._answers(connection) for connection in connections]
        if self._to_settle and self._outbox.held:
            for kept in answers:
                kept.connection.owe()
            self._held += answers
            return
        self._tell(answers)

    def _tell(self, answers: list[_Answers]) -> None:
        # What only acquires have led to waits for the timer: no disk is between an acquire and its answer.
        durable = self._outbox.settle() if self._to_settle else True
        for connection, told, lasting in answers:
            if not durable:
                for n in lasting:
                    told[n] = _not_durable(told[n])
            connection.send(told)
        if self._watching and any(_changes(reply) for one in answers for reply in one.replies):
            self._tell_watchers()
        self._timers.poke()
        if self._to_settle:
            self._outbox.tidy()

    @contextlib.contextmanager
    def holding_commits(self) -> Iterator[None]:
        """Keep reports waiting while somebody else writes to the database; decisions go on."""
        self._outbox.held, self._released = True, trio.Event()
        try:
            yield
        finally:
            self._outbox.held = False
            self._released.set()
            held, self._held = self._held, []
            self._to_settle = True
            self._tell(held)
            for answers in held:
                answers.connection.paid()

    def _answers(self, connection: Connection) -> _Answers:
        """Handle the lines of a connection, up to one whose answer takes its time, or until the others have theirs."""
        answers = _Answers(connection, [], set())
        told = answers.replies
        connection.place = len(connection.unsent)
        lines, connection.backlog = connection.backlog, []
        for place, line in enumerate(lines):
            if place == bounds.LINES or (told and isinstance(told[-1], _LONG)):
                connection.backlog = lines[place:]
                connection.owe()
                connection.nursery.start_soon(self._go_on, connection)
                break
            try:
                request = protocol.decode(line)
            except protocol.BadRequestError as error:
                told.append(error.reply)
                if len(line) > protocol.MAX_LINE:
                    connection.end()
                continue
            if isinstance(request, protocol.HistoryQuery):
                if connection.gone:
                    continue
                connection.backlog = lines[place + 1 :]
                connection.owe()
                connection.nursery.start_soon(self._tell_history, connection, request)
                break
            if not isinstance(request, protocol.Acquire):
                self._to_settle = True
                if isinstance(request, _LASTING):
                    answers.lasting.add(len(told))
            try:
                told.append(self._handle(request, connection))
            except Exception:
                log.exception("a request failed; please report this")
                told.append(protocol.Error(id=request.id, code="internal", message=_BUG))
                connection.end()
                break
        return answers

    async def _tell_history(self, connection: Connection, request: protocol.HistoryQuery) -> None:
        await self._released.wait()  # after the replies that are kept waiting
        self._outbox.settle()
        self._outbox.fold()
        if self._is_crammed():
            reply: protocol.AnyReply = protocol.Error(id=request.id, code="unavailable", message=_UNREAD)
        else:
            reply = await self._host.history(request)
        connection.place = len(connection.unsent)
        connection.send([reply])
        await self._go_on(connection)

    async def _go_on(self, connection: Connection) -> None:
        """Answer what is left of its lines, once it has read what it was told and others have had their turn."""
        await self._released.wait()
        await connection.send_unsent()
        await trio.lowlevel.checkpoint()
        connection.paid()
        if connection.backlog:
            self._answer([connection])

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
                case protocol.StatusQuery() | protocol.LogQuery() | protocol.Explain() if self._is_crammed():
                    return protocol.Error(id=id_, code="unavailable", message=_UNREAD)
                case protocol.StatusQuery():
                    return self._status(id_, now, connection)
                case protocol.Explain():
                    self._let_watch(connection)
                    return status.explained(self._ledger, request.model, request.session, now, id_)
                case protocol.LogQuery():
                    since = request.since.timestamp() if request.since else 0.0
                    return protocol.Log(id=id_, events=self._outbox.events(since, request.limit))
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
                case protocol.Adopt():
                    return self._adopt(request, now)
                case protocol.Import():
                    return self._import(id_)
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
                case protocol.HistoryQuery():
                    raise TypeError("a history takes its time")
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

    def _is_crammed(self) -> bool:
        """Whether so much waits to be read that there is no room for a long reply."""
        return sum(connection.unread for connection in self._connections) > bounds.UNREAD

    def _acquire(self, request: protocol.Acquire, connection: Connection, now: float) -> protocol.AnyReply:
        if len(connection.leases) >= bounds.LEASES_OF_ONE or len(self._ledger.leases) >= bounds.LEASES:
            refusal = self._too_many(request, connection, now)
            if refusal is not None:
                return refusal
        step = self._ledger.acquire(
            request.provider,
            request.model,
            now,
            session=request.session,
            purpose=request.purpose,
            dry_run=request.dry_run,
            estimate=request.estimate,
            lease_for=None if request.lease_for is None else (request.lease_for.provider, request.lease_for.model),
        )
        self._outbox.add(step)
        decision = step.reply
        if isinstance(decision, Use) and decision.lease is not None:
            connection.leases[decision.lease] = None
        return replies.decided(decision, request.id, now)

    def _too_many(self, request: protocol.Acquire, connection: Connection, now: float) -> protocol.Error | None:
        """Refuse one more lease, unless some have ended or none is wanted."""
        if request.dry_run or request.purpose == "turn":
            return None
        self._outbox.add(self._ledger.roll(now))
        while connection.leases and (oldest := next(iter(connection.leases))) not in self._ledger.leases:
            del connection.leases[oldest]
        if len(connection.leases) >= bounds.LEASES_OF_ONE:
            message = _UNREPORTED.format("This connection has", bounds.LEASES_OF_ONE)
        elif len(self._ledger.leases) >= bounds.LEASES:
            message = _UNREPORTED.format("There are", bounds.LEASES)
        else:
            return None
        return protocol.Error(id=request.id, code="unavailable", message=message)

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
            connection.leases.pop(request.lease, None)
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
            name=peer.name(request.pid),
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

    def _status(self, id_: protocol.Id, now: float, connection: Connection) -> protocol.Status:
        book = self._ledger.book
        self._let_watch(connection)
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

    def _subscribe(self, request: protocol.Subscribe, connection: Connection) -> protocol.AnyReply:
        self._watching.discard(connection)
        if not connection.events and sum(bool(c.events) for c in self._connections) >= bounds.SUBSCRIBERS:
            return protocol.Error(id=request.id, code="unavailable", message=_DEAF.format(bounds.SUBSCRIBERS))
        connection.subscribe(frozenset(protocol.EVENTS if request.events is None else request.events))
        return protocol.Subscribed(id=request.id, events=sorted(connection.events))

    def _notify_test(self, id_: protocol.Id) -> protocol.AnyReply:
        count = self._host.notifier.test()
        if not count:
            message = "There is no notification target: name one under [notify] in the configuration."
            return protocol.Error(id=id_, code="not_found", message=message)
        return protocol.Done(id=id_, message=f"a test message is on its way to {count} targets")

    def _adopt(self, request: protocol.Adopt, now: float) -> protocol.AdoptedReply:
        found = (
            Found(one.provider, one.requests, one.errors, one.until.timestamp() if one.until else None)
            for one in request.providers
        )
        made = adopt(self._ledger.book, found, request.current, now)
        self._outbox.add(made.step)
        return protocol.AdoptedReply(id=request.id, taken=made.taken, left=made.left)

    def _import(self, id_: protocol.Id) -> protocol.AnyReply:
        try:
            return protocol.Done(id=id_, message=self._host.take_over())
        except (OSError, *rescue.UNREADABLE) as error:
            message = f"Nothing was imported: {error}. Try again; if that does not help: rlmctl doctor."
            return protocol.Error(id=id_, code="unavailable", message=message)

    def _reload(self, id_: protocol.Id) -> protocol.AnyReply:
        step = self._host.reload()
        self._outbox.add(step)
        message = step.notices[-1].message
        if self._host.config_error is not None:
            return protocol.Error(id=id_, code="bad_request", message=message)
        return protocol.Done(id=id_, message=message)


_BUG = "rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed."


_FULL = (
    "rlmd serves {} connections already: close one (rlmctl status lists the agents) and try again. "
    "This connection is closed."
)
_UNREPORTED = "{} {} requests under way that nobody has reported: report them, or wait until their time is up."
_DEAF = "{} connections listen to events already: close one (rlmctl status lists the agents) and try again."
_UNREAD = "Others have not read what they asked for, and there is no room for more: ask again in a moment."
_LONG = (protocol.Status, protocol.Explained, protocol.Log)
"""Replies of a size that one a turn is enough."""

_LASTING = (
    protocol.Report,
    protocol.UsageReport,
    protocol.Reset,
    protocol.CooldownOrder,
    protocol.Enable,
    protocol.Disable,
    protocol.Pin,
    protocol.Adopt,
    protocol.Import,
)
"""What is known for ever once it is acknowledged."""


def _changes(reply: protocol.AnyReply) -> bool:
    """Whether status shows something else after this."""
    return isinstance(reply, protocol.Recorded | protocol.Done | protocol.AdoptedReply | protocol.Welcome) or (
        isinstance(reply, protocol.Use) and reply.lease is not msgspec.UNSET
    )


def _not_durable(reply: protocol.AnyReply) -> protocol.AnyReply:
    match reply:
        case protocol.Recorded():
            message = (
                "The report is counted in memory and the disk does not take it: send it again with the same lease "
                "later. See `rlmctl doctor`."
            )
        case protocol.AdoptedReply():
            message = "It is taken over, but only until rlmd ends: the disk does not take it. See `rlmctl doctor`."
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
