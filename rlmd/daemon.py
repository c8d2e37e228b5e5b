"""The composition root: builds everything once, runs it in one nursery, answers signals."""

from __future__ import annotations

import errno
import gc
import logging
import math
import os
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from rlmd import __version__
from rlmd.address import PathTooLongError
from rlmd.core.ledger import Ledger
from rlmd.notify.notifier import Notifier
from rlmd.server import listener, service_manager, status
from rlmd.server.configuration import Configuration
from rlmd.server.outbox import Outbox
from rlmd.server.server import Server
from rlmd.server.timers import Timers
from rlmd.store import history, recovery
from rlmd.store.checkpoint import Checkpoints
from rlmd.store.database import LOG_MOST, Store
from rlmd.store.migrations import StoreError
from rlmd.wire import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rlmd.core.model import Effects, Senseless
    from rlmd.paths import Paths

log = logging.getLogger(__name__)

DRAIN = 3.0
"""Seconds that conversations get to end when the daemon stops. The daemon exits within 5."""
PRUNE_FIRST, PRUNE_EVERY = 600.0, 3600.0
"""Seconds from the start until old rows are removed for the first time, and from each time until the next."""
STEP = 60.0
"""Largest drift, in seconds, between the wall clock and trio's at which old rows are removed. Trio's clock stands still
in suspend."""
LARGE = 128 * 1024
"""Bytes from which a buffer goes back to the system when it is freed. A chunk that is read at once is smaller: giving
each of them back would cost time."""
_MMAP_THRESHOLD = -3
"""The number of M_MMAP_THRESHOLD in malloc.h."""
ROOM_AGAIN, ROOM_TOLD_AGAIN = 0.1, 60.0
"""Seconds until the next try to accept a connection that the system had no room for, and until the next log line."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
COLLECT = (20_000, 20, 100)
"""Thresholds of the garbage collector. Leases live long and hold no cycles: with Python's own thresholds the collector
looked at all of them every few hundred requests, for 0.3 ms each time."""


class Daemon:
    """Everything that lives as long as the process. The daemon is also the server's `Host`."""

    def __init__(self, paths: Paths, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        """Load the state and the configuration. Raises `StoreError`."""
        self.socket = str(paths.socket)
        self.started_at = clock()
        self._config_path = paths.config
        self._environ = environ
        self._clock = clock
        self._store = Store(paths.database)
        self._checkpoints = Checkpoints(self._store, history.give_way)
        self.outbox = Outbox(self._store, clock, self._all_facts, self._checkpoints.request)
        try:
            self._load()
        except recovery.UNREADABLE as error:
            if not recovery.is_damage(error):
                raise StoreError(
                    f"The state in {paths.database} cannot be read: {error}. See rlmctl doctor."
                ) from error
            self._store.begin_afresh(error)
            self._load()
        self.outbox.warn()
        self.outbox.settle()
        self.timers = Timers(self.ledger, self.outbox, clock)
        self.server = Server(self.ledger, self.outbox, self.timers, self, clock)
        self.outbox.listen(self.server.publish, self.notifier.take, self._tell_service_manager)
        self._stopping = trio.Event()

    def _load(self) -> None:
        """Build the ledger and the notifier from the state and the configuration."""
        self.ledger = Ledger(f"{int(self.started_at):x}{os.urandom(3).hex()}")
        self.configuration = Configuration(self._config_path, self._environ, self._store, self.outbox)
        config = self.configuration.current
        self.notifier = Notifier(self._store, self._clock)
        self.notifier.configure(config.notify, config.policy.zone)
        self._take_in(*self.ledger.restore(self._store.facts(), config.policy, self.started_at))

    def _take_in(self, step: Effects, odd: list[Senseless]) -> None:
        """Keep the changes of a restored state, and set aside its rows that make no sense."""
        self._store.set_aside(odd)
        self.outbox.add(step)

    def reload(self) -> Effects:
        """Put the configuration file into force; where that cannot be, nothing changes."""
        return self.configuration.reload(self.ledger, self.notifier, self._clock())

    async def history(self, request: messages.HistoryQuery) -> messages.AnyReply:
        """Look usage up, in a process of its own. An `until` in the future is the same as none."""
        if request.until is not None and messages.seconds(request.until) > self._clock():
            request.until = None
        try:
            zone = self.configuration.current.policy.zone
            return await history.answer(self._store.path, request, zone, self._clock())
        except (OSError, sqlite3.Error) as error:
            self.outbox.report_error("the history cannot be read", error)
            return messages.Error(id=request.id, code="unavailable", message=f"The state cannot be read now: {error}.")

    def import_state(self) -> str:
        """Replace the state by the one that `rlmctl import` has laid beside it; say where the old one is."""
        if self.outbox.paused or not self.outbox.settle(insist=True):
            raise sqlite3.OperationalError("the disk is busy or fails")
        if recovery.import_path(self._store.path).stat().st_size + self._store.log_size() > LOG_MOST:
            raise OSError("it is too large to be taken over while rlmd runs: rlmctl stop, and import it then")
        kept = self._store.replace()
        self._take_in(*self.ledger.begin_anew(self._store.facts(), self.configuration.current.policy, self._clock()))
        self.notifier.take_up()
        log.info("the state was replaced by an import; the one before is kept in %s", kept)
        return f"the state is replaced; the one before is kept in {kept}"

    def shutdown(self) -> None:
        """Begin to drain and exit."""
        self._stopping.set()

    async def run(self, accepting: listener.Listener) -> None:
        """Serve until told to stop; then answer the requests that have arrived, and return."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._checkpoints.run, self.server.commits_resumed)
            for task in (self.timers.run, self.notifier.run):
                nursery.start_soon(task)
            for task in (self._heed_signals, self._prune, self._sign_of_life):
                nursery.start_soon(task)
            await self._serve(accepting)
            nursery.cancel_scope.cancel()
        self.outbox.settle(insist=True)
        self.notifier.flush()
        self._store.close()

    async def _serve(self, accepting: listener.Listener) -> None:
        listening = trio.SocketListener(trio.socket.from_stdlib_socket(accepting.socket))
        async with trio.open_nursery() as conversations:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept, listening, conversations)
                service_manager.notify(f"READY=1\n{self._state()}")
                log.info("serving %s with %s", self.socket, self.configuration.path)
                await self._stopping.wait()
                service_manager.notify("STOPPING=1")
                log.info("stopping")
                nursery.cancel_scope.cancel()
            self.notifier.stop()
            accepting.close()
            conversations.cancel_scope.deadline = trio.current_time() + DRAIN
            self.server.drain()

    def _tell_service_manager(self, event: messages.Event) -> None:
        """Renew the state in `systemctl status` after an event."""
        del event
        if service_manager.is_listening():
            service_manager.notify(self._state())

    def _state(self) -> str:
        """Say in a line for `systemctl status` how things are."""
        now = self._clock()
        try:
            state = status.line(status.providers(self.ledger, now), now, self.configuration.current.policy.zone)
        except Exception:
            log.exception("the state cannot be told; please report this")
            state = "serving"
        refused = "" if self.configuration.error is None else "; the configuration is refused: rlmctl doctor"
        return f"STATUS={state}{refused}"

    async def _accept(self, listening: trio.SocketListener, conversations: trio.Nursery) -> None:
        """Accept every connection; where the system has no room for one more, wait until there is room.

        Trio's `serve_listeners` does the same with a traceback ten times a second.
        """
        told = -math.inf
        while True:
            try:
                stream = await listening.accept()
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                if trio.current_time() - told > ROOM_TOLD_AGAIN:
                    told = trio.current_time()
                    log.warning("nobody else can connect now (%s): raise the limit of open files (ulimit -n)", error)
                await trio.sleep(ROOM_AGAIN)
            else:
                conversations.start_soon(self.server.serve, stream)

    async def _heed_signals(self) -> None:
        heeded = [signal.SIGTERM, signal.SIGHUP]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a background job: Ctrl-C is for another
            heeded.append(signal.SIGINT)
        with trio.open_signal_receiver(*heeded) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload_by_signal()
                else:
                    self.shutdown()

    def _reload_by_signal(self) -> None:
        try:
            self.outbox.add(self.reload())
        except Exception:
            log.exception("the configuration cannot be read again; please report this")
        self.outbox.settle()
        self.timers.poke()

    async def _prune(self) -> None:
        """Remove old rows, while the clock has been steady: a wrong clock would remove rows for good."""
        pause = PRUNE_FIRST
        while True:
            ahead = self._clock() - trio.current_time()
            await trio.sleep(pause)
            steady = abs(self._clock() - trio.current_time() - ahead) < STEP
            more = steady and self.outbox.prune(self._clock(), self.configuration.current.history_keep)
            pause = 1.0 if more else PRUNE_EVERY

    async def _sign_of_life(self) -> None:
        period = service_manager.watchdog_period()
        if period is None:
            return
        while True:
            service_manager.notify("WATCHDOG=1")
            await trio.sleep(period)

    def _all_facts(self) -> Effects:
        step = self.ledger.state.keep_everything()
        step.facts.update(self.configuration.facts().facts)
        return step


def _give_memory_back() -> None:
    """Give large buffers back to the system when they are freed: glibc stops doing so after the first of them."""
    if sys.platform == "linux":
        with suppress(ImportError, AttributeError, OSError):  # the C library is not glibc
            import ctypes  # noqa: PLC0415  (Python may have been built without it)

            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE)


def run(paths: Paths) -> int:
    """Run the daemon in the foreground until it is told to stop. Returns the exit code."""
    os.umask(0o077)
    try:
        handed = service_manager.handed_over()
        listener.claim(paths, handed_over=handed is not None)
        daemon = Daemon(paths, os.environ)
        accepting = listener.Listener(handed, None, 0) if handed else listener.listen(paths.socket)
    except (
        listener.AlreadyRunningError,
        listener.UnusablePlaceError,
        PathTooLongError,
        service_manager.HandoverError,
        StoreError,
    ) as error:
        log.error("%s", error)  # noqa: TRY400  (told to a person, not traced)
        service_manager.notify(f"STATUS={error}")
        return 1
    if handed:
        daemon.socket = str(handed.getsockname())
    log.info("rlmd %s, pid %d", __version__, os.getpid())
    _give_memory_back()
    gc.freeze()  # loaded modules stay for ever
    gc.set_threshold(*COLLECT)
    gc.enable()
    trio.run(daemon.run, accepting)
    return 0
