"""Serves connections, a task each. It owns who is connected, who listens, and when what was asked is answered.

All requests of a chunk are handled together: their steps become durable in one transaction, then their replies
leave in one send.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import select
import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from rlmd import bounds, peer, protocol
from rlmd.connection import Connection, linger
from rlmd.dispatch import Dispatcher
from rlmd.protocol import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlmd.core.ledger import Ledger
    from rlmd.dispatch import Host
    from rlmd.outbox import Outbox
    from rlmd.timers import Timers

log = logging.getLogger(__name__)

ROUNDS = 16
"""Times in a row that all who have asked are answered before anything else gets a turn. Whoever asks again at once is
then answered without a way through trio's scheduler, which costs as much as a decision."""


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
        self._clock = clock
        self._connections: set[Connection] = set()
        self._dispatch = Dispatcher(ledger, outbox, host, self._connections, clock)
        self._by_fd: dict[int, Connection] = {}
        # What epoll costs depends on those who ask, not on all who are connected; macOS has none.
        self._poll = select.epoll() if sys.platform == "linux" else select.poll()
        self._room = bounds.connections()
        self._refused = 0
        """How many are being refused just now."""
        self._held: list[_Answers] = []
        self._released = trio.Event()
        self._released.set()
        self._to_settle = False
        """Something else than an acquire has been asked in this turn."""
        self._draining = False

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
        self._dispatch.watching.discard(connection)

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
        if self._dispatch.watching:
            event = protocol.Event(event="changed", at=rfc3339(self._clock()), message="the status has changed")
            line = protocol.encode(event)
            watching = list(self._dispatch.watching)
            self._dispatch.watching.clear()
            for connection in watching:
                connection.tell(line)

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
        if self._dispatch.watching and any(_changes(reply) for one in answers for reply in one.replies):
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
                told.append(self._dispatch.handle(request, connection))
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
        reply = await self._dispatch.history(request)
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


_BUG = "rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed."


_FULL = (
    "rlmd serves {} connections already: close one (rlmctl status lists the agents) and try again. "
    "This connection is closed."
)
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
