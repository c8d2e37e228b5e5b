"""One match over the messages: a request in, a reply out. The dispatcher knows no socket and no task.

A request comes with its connection, which has leases and subscriptions. The changes of a request are in the outbox when
its reply is returned; the server commits them before the reply is sent.
"""

from __future__ import annotations

import os
import random
import sqlite3
from typing import TYPE_CHECKING, Protocol, assert_never

import trio

from rlmd import __version__
from rlmd.core import commands
from rlmd.core.model import Use
from rlmd.core.takeover import Found, adopt
from rlmd.server import capacity, peer, status
from rlmd.store import recovery
from rlmd.wire import codec, messages, translate
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import Effects, Receipt
    from rlmd.notify.notifier import Notifier
    from rlmd.server.configuration import Configuration
    from rlmd.server.connection import Connection
    from rlmd.server.outbox import Outbox


SUSPENDED = 30.0
"""Seconds that the wall clock gains on trio's when the machine has slept. A time server steps the clock by less."""


class Host(Protocol):
    """The daemon as requests see it."""

    socket: str
    started_at: float
    notifier: Notifier
    configuration: Configuration

    def reload(self) -> Effects:
        """Put the configuration file into force and tell; `configuration.error` says why that cannot be."""

    async def history(self, request: messages.HistoryQuery) -> messages.AnyReply:
        """Look usage up, away from everything else."""

    def import_state(self) -> str:
        """Replace the state by the one that lies beside it; say where the old one is.

        Raises `OSError` and `recovery.UNREADABLE`; nothing has changed then.
        """

    def shutdown(self) -> None:
        """Begin to drain and exit."""


class Dispatcher:
    """Turns requests into replies. `connections` are all connections of the server."""

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        host: Host,
        connections: Collection[Connection],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._host = host
        self._connections = connections
        self._clock = clock
        self._drift: float | None = None
        """Seconds by which the wall clock was ahead of trio's at the last request."""
        self._random = random.Random()  # noqa: S311  (it spreads returns over time, it hides nothing)
        self.watching: set[Connection] = set()
        """Connections that are to be told of the next change of the status."""

    def handle(  # noqa: C901, PLR0912  (one match over every message; a branch is a line or two)
        self, request: messages.AnyRequest, connection: Connection
    ) -> messages.AnyReply:
        """Do what a request asks for. Any exception is a bug."""
        now = self._clock()
        self._notice_suspend(now)
        state = self._ledger.state
        id_ = request.id
        try:
            match request:
                case messages.Acquire():
                    return self._acquire(request, connection, now)
                case messages.Report():
                    return self._report(request, connection, now)
                case messages.UsageReport():
                    return self._usage(request, now)
                case messages.Hello():
                    return self._hello(request, connection, now)
                case messages.StatusQuery() | messages.LogQuery() | messages.Explain() if self._is_crammed():
                    return messages.Error(id=id_, code="unavailable", message=_UNREAD)
                case messages.StatusQuery():
                    return self._status(id_, now, connection)
                case messages.Explain():
                    self._watch(connection)
                    return status.explained(self._ledger, request.model, request.session, now, id_)
                case messages.LogQuery():
                    since = messages.seconds(request.since) if request.since else 0.0
                    return messages.Log(id=id_, events=self._outbox.events(since, request.limit))
                case messages.Reset():
                    step = commands.reset(state, request.what, request.provider, now)
                case messages.CooldownOrder():
                    until = _until(request, now)
                    step = commands.rest(state, request.provider, request.model, until, request.reason, now)
                case messages.Enable():
                    step = commands.enable(state, request.provider, now, enabled=True)
                case messages.Disable():
                    step = commands.enable(state, request.provider, now, enabled=False)
                case messages.Pin():
                    step = commands.pin(state, request.provider, request.model, now)
                case messages.Adopt():
                    return self._adopt(request, now)
                case messages.Import():
                    return self._import(id_)
                case messages.Subscribe():
                    return self._subscribe(request, connection)
                case messages.Reload():
                    return self._reload(id_)
                case messages.Shutdown():
                    self._host.shutdown()
                    return messages.Done(id=id_, message="rlmd is stopping")
                case messages.NotifyTest():
                    return self._notify_test(id_)
                case messages.Ping():
                    return messages.Pong(id=id_)
                case messages.HistoryQuery():
                    raise TypeError("a history takes its time")
                case _:
                    assert_never(request)
        except codec.BadRequestError as error:
            return error.reply
        except commands.UnknownNameError as error:
            return messages.Error(id=id_, code="not_found", message=str(error))
        except sqlite3.Error as error:
            return messages.Error(id=id_, code="unavailable", message=f"The state cannot be read now: {error}.")
        self._outbox.add(step)
        return messages.Done(id=id_, message=step.notices[-1].message)

    def _notice_suspend(self, now: float) -> None:
        """Tell the ledger if the machine has slept since the last request."""
        drift = now - trio.current_time()
        if self._drift is not None and drift - self._drift >= SUSPENDED:
            self._ledger.suspended(now)
        self._drift = drift

    async def history(self, request: messages.HistoryQuery) -> messages.AnyReply:
        """Look usage up: the only request that takes time."""
        if self._is_crammed():
            return messages.Error(id=request.id, code="unavailable", message=_UNREAD)
        return await self._host.history(request)

    def _is_crammed(self) -> bool:
        """Whether the unread replies of all connections leave no room for a long one."""
        return sum(connection.unread for connection in self._connections) > capacity.UNREAD

    def _acquire(self, request: messages.Acquire, connection: Connection, now: float) -> messages.AnyReply:
        if len(connection.leases) >= capacity.LEASES_OF_ONE or len(self._ledger.leases) >= capacity.LEASES:
            refusal = self._too_many(request, connection, now)
            if refusal is not None:
                return refusal
        step = self._ledger.acquire(request, now)
        self._outbox.add(step)
        decision = step.reply
        if isinstance(decision, Use) and decision.lease is not None:
            connection.leases[decision.lease] = None
        return translate.decided(decision, request.id, now)

    def _too_many(self, request: messages.Acquire, connection: Connection, now: float) -> messages.Error | None:
        """Refuse one more lease, unless the request wants none or expired leases have made room."""
        if request.dry_run or request.purpose == "turn":
            return None
        self._outbox.add(self._ledger.roll(now))
        while connection.leases and (oldest := next(iter(connection.leases))) not in self._ledger.leases:
            del connection.leases[oldest]
        if len(connection.leases) >= capacity.LEASES_OF_ONE:
            message = _UNREPORTED.format("This connection has", capacity.LEASES_OF_ONE)
        elif len(self._ledger.leases) >= capacity.LEASES:
            message = _UNREPORTED.format("There are", capacity.LEASES)
        else:
            return None
        return messages.Error(id=request.id, code="unavailable", message=message)

    def _report(self, request: messages.Report, connection: Connection, now: float) -> messages.AnyReply:
        receipt = self._remembered(request.lease)
        step = self._ledger.report(request, now, rand=self._random.random(), receipt=receipt)
        self._outbox.add(step)
        if request.lease is not None and request.outcome != "accepted":
            connection.leases.pop(request.lease, None)
        return translate.recorded(step.reply, request.id, now)

    def _usage(self, request: messages.UsageReport, now: float) -> messages.AnyReply:
        if request.lease is None and (request.provider is None or request.model is None):
            message = 'usage: give the "lease", or the "provider" and the "model".'
            return messages.Error(id=request.id, code="bad_request", message=message)
        step = self._ledger.meter(request, now, receipt=self._remembered(request.lease))
        self._outbox.add(step)
        return translate.recorded(step.reply, request.id, now)

    def _remembered(self, lease: str | None) -> Receipt | None:
        if lease is None or lease in self._ledger.leases:
            return None
        return self._outbox.receipt(lease)

    def _hello(self, request: messages.Hello, connection: Connection, now: float) -> messages.AnyReply:
        connection.agent = messages.Agent(
            client=request.client,
            version=request.version,
            pid=request.pid,
            name=peer.name(request.pid),
            directory=request.directory,
            since=rfc3339(now),
        )
        return messages.Welcome(
            id=request.id,
            server="rlmd",
            version=__version__,
            protocol=messages.VERSION,
            pid=os.getpid(),
            settings=self._host.configuration.settings(),
        )

    def _status(self, id_: messages.Id, now: float, connection: Connection) -> messages.Status:
        state = self._ledger.state
        self._watch(connection)
        agents = [c.agent for c in self._connections if c.agent is not None and c.agent.client != "rlmctl"]
        infos = status.providers(self._ledger, now)
        return messages.Status(
            id=id_,
            daemon=messages.DaemonInfo(
                pid=os.getpid(),
                version=__version__,
                started_at=rfc3339(self._host.started_at),
                socket=self._host.socket,
                durable=self._outbox.durable,
                agents=len(agents),
                config=str(self._host.configuration.path),
                config_error=self._host.configuration.error,
                clients=agents,
                notify=self._host.notifier.infos(),
            ),
            providers=infos,
            current_provider=state.current,
            model_mapping=status.model_mapping(self._ledger),
            pins=dict(state.pins),
            text=status.text(infos, state.current, state.policy.zone),
        )

    def _subscribe(self, request: messages.Subscribe, connection: Connection) -> messages.AnyReply:
        self.watching.discard(connection)
        if not connection.events and sum(bool(c.events) for c in self._connections) >= capacity.SUBSCRIBERS:
            return messages.Error(id=request.id, code="unavailable", message=_DEAF.format(capacity.SUBSCRIBERS))
        connection.subscribe(frozenset(messages.EVENTS if request.events is None else request.events))
        return messages.Subscribed(id=request.id, events=sorted(connection.events))

    def _notify_test(self, id_: messages.Id) -> messages.AnyReply:
        count = self._host.notifier.test()
        if not count:
            message = "There is no notification target: name one under [notify] in the configuration."
            return messages.Error(id=id_, code="not_found", message=message)
        return messages.Done(id=id_, message=f"a test message is on its way to {count} targets")

    def _adopt(self, request: messages.Adopt, now: float) -> messages.AdoptedReply:
        found = (
            Found(one.provider, one.requests, one.errors, messages.seconds(one.until) if one.until else None)
            for one in request.providers
        )
        made = adopt(self._ledger.state, found, request.current, now)
        self._outbox.add(made.effects)
        return messages.AdoptedReply(id=request.id, taken=made.taken, left=made.left)

    def _import(self, id_: messages.Id) -> messages.AnyReply:
        try:
            return messages.Done(id=id_, message=self._host.import_state())
        except (OSError, *recovery.UNREADABLE) as error:
            message = f"Nothing was imported: {error}. Try again; if that does not help: rlmctl doctor."
            return messages.Error(id=id_, code="unavailable", message=message)

    def _reload(self, id_: messages.Id) -> messages.AnyReply:
        step = self._host.reload()
        self._outbox.add(step)
        message = step.notices[-1].message
        if self._host.configuration.error is not None:
            return messages.Error(id=id_, code="bad_request", message=message)
        return messages.Done(id=id_, message=message)

    def _watch(self, connection: Connection) -> None:
        """Make a connection that has subscribed to `changed` a watcher of the status."""
        if "changed" in connection.events:
            self.watching.add(connection)


_UNREPORTED = "{} {} requests under way that nobody has reported: report them, or wait until their time is up."
_DEAF = "{} connections listen to events already: close one (rlmctl status lists the agents) and try again."
_UNREAD = "The reply buffers are full because other clients are not reading. Try again in a moment."


def _until(request: messages.CooldownOrder, now: float) -> float:
    if request.for_ms:
        return now + request.for_ms / 1000
    if request.for_ms is None and request.until is not None:
        until = messages.seconds(request.until)
        if 0 < until - now <= messages.YEAR_MS / 1000:
            return until
    message = 'cooldown: give "for_ms", or "until" as a time in the coming year.'
    if request.for_ms == 0:
        mend = f"rlmctl reset {request.provider} --cooldowns"
        message = f'cooldown: "for_ms" is 0, which is no rest. To end a cooldown: {mend}'
    raise codec.BadRequestError(messages.Error(id=request.id, code="bad_request", message=message))
