"""Serves connections, a task each. The server owns the connections and the moment of each reply.

All requests that have arrived at one moment are handled together: their steps are committed in one transaction, then
each connection gets its replies, then the events are told. The connections share the transaction and nothing else: an
exception ends the connection that it belongs to, also while an event is told, with a traceback in the log.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import select
import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import trio

from rlmd.server import capacity, peer
from rlmd.server.connection import Connection, linger
from rlmd.server.dispatch import Dispatcher
from rlmd.wire import codec, messages, translate
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.ledger import Ledger
    from rlmd.server.dispatch import Host
    from rlmd.server.outbox import Outbox
    from rlmd.server.timers import Timers

log = logging.getLogger(__name__)

ROUNDS = 16
"""Times in a row that all connections with requests are answered before another task runs. A client that asks again at
once is so answered without trio's scheduler, which costs as much as a decision."""


class _Answers(NamedTuple):
    """The replies to one connection in one turn."""

    connection: Connection
    replies: list[messages.AnyReply]
    durable: set[int]
    """Indexes of the replies to durable requests: such a reply becomes `not_durable` where the commit fails."""


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
        # The cost of epoll grows with the connections that ask, the cost of poll with all of them. macOS has no epoll.
        self._poll = select.epoll() if sys.platform == "linux" else select.poll()
        self._room = capacity.connections()
        self._refused = 0
        """Connections that are being refused now."""
        self._waiting: list[_Answers] = []
        """Answers that are kept back while commits are paused."""
        self._resumed = trio.Event()
        """Set when commits go on again; the next pause has another one."""
        self._to_commit = False
        """This turn has a request other than acquire."""
        self._draining = False

    def drain(self) -> None:
        """Read nothing more: each conversation ends when the requests that have arrived are answered."""
        self._draining = True
        for connection in self._connections:
            connection.take_no_more()

    def publish(self, event: messages.Event) -> None:
        """Send an event to every connection that has subscribed to its kind."""
        listening = [connection for connection in self._connections if event.event in connection.events]
        if listening:
            self._push(event, listening)
        self._tell_watchers()

    def _push(self, event: messages.Event, connections: list[Connection]) -> None:
        line = codec.encode(event)
        for connection in connections:
            try:
                connection.push_event(line)
            except Exception:
                log.exception("an event cannot be sent; please report this")
                connection.fail()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Hold one conversation. A bug in a handler ends the connection, not the daemon."""
        try:
            if not peer.is_allowed(stream.socket):
                log.warning("a connection of another user was refused")
                refusal = messages.Error(code="unauthorized", message="This rlmd serves its owner only.")
                await self._refuse(stream, refusal)
            elif len(self._connections) >= self._room:
                await self._refuse(stream, messages.Error(code="unavailable", message=_FULL.format(self._room)))
            else:
                await self._hold(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away")
        except* Exception:
            log.exception("a connection failed; please report this")

    async def _hold(self, stream: trio.SocketStream) -> None:
        async with stream, trio.open_nursery() as nursery:
            connection = Connection(stream, nursery)
            self._enter(connection)
            try:
                await self._converse(connection)
            finally:
                self._leave(connection)
                await self._release(connection)
            nursery.cancel_scope.cancel()

    async def _refuse(self, stream: trio.SocketStream, refusal: messages.Error) -> None:
        """Send the refusal, and wait until it is read, unless very many connections are being refused."""
        self._refused += 1
        try:
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(codec.encode(refusal))
                if self._refused <= capacity.DOORSTEP:
                    await linger(stream)
        finally:
            self._refused -= 1

    def _enter(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._by_fd[connection.fd] = connection
        self._poll.register(connection.fd, select.POLLIN)
        if self._draining:
            connection.take_no_more()

    def _leave(self, connection: Connection) -> None:
        connection.gone = True
        self._poll.unregister(connection.fd)
        del self._by_fd[connection.fd]
        self._connections.discard(connection)
        self._dispatch.watching.discard(connection)

    async def _release(self, connection: Connection) -> None:
        """Release the leases of a connection, `capacity.RELEASED` at a time, because other connections wait."""
        many = len(connection.leases) > capacity.RELEASED
        with trio.CancelScope(shield=True):
            while True:
                some = list(islice(connection.leases, capacity.RELEASED))
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
            gc.collect()  # it also frees the memory that Python keeps for more leases

    def _tell_watchers(self) -> None:
        """Tell each watching connection of a change, once: its next `status` request makes it a watcher again."""
        if self._dispatch.watching:
            event = messages.Event(event="changed", at=rfc3339(self._clock()), message="the status has changed")
            watching = list(self._dispatch.watching)
            self._dispatch.watching.clear()
            self._push(event, watching)

    async def _converse(self, connection: Connection) -> None:
        while not connection.ended:
            await connection.catch_up()
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(connection.fd)
                self._answer_all()
        await connection.close_gracefully()

    def _answer_all(self) -> None:
        """Answer every connection whose requests have arrived, not only the task's own: one commit serves them all.

        Repeat while more requests arrive, up to `ROUNDS` times. A connection that was answered here finds nothing to
        read in its own task.
        """
        for _ in range(ROUNDS):
            heard = (self._by_fd[fd] for fd, _ in self._poll.poll(0))
            asking = [connection for connection in heard if _has_asked(connection)]
            if not asking:
                return
            self._answer(asking)

    def _answer(self, connections: list[Connection]) -> None:
        """Handle the requests of these connections; then commit, then reply, then tell the events."""
        self._to_commit = False
        answers = [self._answers(connection) for connection in connections]
        if self._to_commit and self._outbox.paused:
            for kept in answers:
                kept.connection.pause_reading()
            self._waiting += answers
            return
        self._finish(answers)

    def _finish(self, answers: list[_Answers]) -> None:
        """Commit, reply, tell. It never raises: it runs in the task of whichever connection asked first."""
        # Changes by acquires alone are committed by the timer: no disk stands between an acquire and its reply.
        committed = self._outbox.commit() if self._to_commit else True
        for one in answers:
            _reply(one, committed=committed)
        if self._to_commit:
            self._outbox.tell()
        try:
            if self._dispatch.watching and any(translate.changes(reply) for one in answers for reply in one.replies):
                self._tell_watchers()
            self._timers.poke()
        except Exception:
            log.exception("what has changed cannot be told; please report this")
        if self._to_commit:
            self._outbox.tidy()

    def commits_resumed(self) -> None:
        """Send the answers that were kept back while commits were paused."""
        resumed, self._resumed = self._resumed, trio.Event()
        resumed.set()
        waiting, self._waiting = self._waiting, []
        self._to_commit = True
        self._finish(waiting)
        for answers in waiting:
            answers.connection.resume_reading()

    def _answers(self, connection: Connection) -> _Answers:
        """Handle the lines of a connection: up to one whose reply takes time, at most `capacity.LINES`."""
        answers = _Answers(connection, [], set())
        try:
            self._handle(answers)
        except Exception:
            log.exception("a connection failed; please report this")
            connection.fail()
        return answers

    def _handle(self, answers: _Answers) -> None:
        connection, replies = answers.connection, answers.replies
        lines, connection.backlog = connection.backlog, []
        for index, line in enumerate(lines):
            if index == capacity.LINES or (replies and isinstance(replies[-1], _LONG)):
                connection.backlog = lines[index:]
                connection.pause_reading()
                connection.nursery.start_soon(self._resume, connection)
                break
            try:
                request = codec.decode(line)
            except codec.BadRequestError as error:
                replies.append(error.reply)
                if len(line) > codec.MAX_LINE:
                    connection.end()
                continue
            if isinstance(request, messages.HistoryQuery):
                if connection.gone:
                    continue
                connection.backlog = lines[index + 1 :]
                connection.pause_reading()
                connection.nursery.start_soon(self._tell_history, connection, request)
                break
            if not isinstance(request, messages.Acquire):
                self._to_commit = True
                if isinstance(request, messages.Durable):
                    answers.durable.add(len(replies))
            try:
                replies.append(self._dispatch.handle(request, connection))
            except Exception:
                log.exception("a request failed; please report this")
                replies.append(messages.Error(id=request.id, code="internal", message=_BUG))
                connection.end()
                break

    async def _tell_history(self, connection: Connection, request: messages.HistoryQuery) -> None:
        await self._until_resumed()  # after the replies that are kept back
        self._outbox.settle()
        self._outbox.fold()
        reply = await self._dispatch.history(request)
        connection.send([reply])
        await self._resume(connection)

    async def _resume(self, connection: Connection) -> None:
        """Answer the rest of a connection's lines, when its replies are sent and other tasks have had their turn."""
        await self._until_resumed()
        await connection.send_unsent()
        await trio.lowlevel.checkpoint()
        connection.resume_reading()
        if connection.backlog:
            self._answer([connection])

    async def _until_resumed(self) -> None:
        """Wait until commits are not paused. By the time of a waiter's turn, the next pause may have begun."""
        while self._outbox.paused:
            await self._resumed.wait()


def _has_asked(connection: Connection) -> bool:
    try:
        return not connection.ended and connection.receive()
    except Exception:
        log.exception("a connection failed; please report this")
        connection.fail()
        return False


def _reply(answers: _Answers, *, committed: bool) -> None:
    connection, replies, durable = answers
    try:
        if not committed:
            for index in durable:
                replies[index] = translate.not_durable(replies[index])
        connection.send(replies)
    except Exception:
        log.exception("a reply cannot be sent; please report this")
        connection.fail()


_BUG = "rlmd has a bug here; its log has the details (rlmctl paths). This connection is closed."


_FULL = (
    "rlmd serves {} connections already: close one (rlmctl status lists the agents) and try again. "
    "This connection is closed."
)
_LONG = (messages.Status, messages.Explained, messages.Log)
"""Long replies: a connection gets one of them a turn."""
