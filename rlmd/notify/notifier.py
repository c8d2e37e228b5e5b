"""Tells people: which events, to whom, when, and again where that failed. Decides nothing about routing.

An event becomes a letter to each target. A letter is kept in the state until its target took it; targets do not
wait for each other, and nothing waits for them. A fact is told once in its window, restarts notwithstanding.
"""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
import trio

from rlmd.core.model import YEAR
from rlmd.core.text import clock
from rlmd.notify import targets
from rlmd.store.queued import QueuedMessage
from rlmd.wire.messages import NotifyInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import tzinfo

    from rlmd.config.policy import Notify
    from rlmd.store.database import Store
    from rlmd.wire.messages import Event

log = logging.getLogger(__name__)

AGAIN = 600.0
"""Seconds after which a fact that names no end may be told again."""
FIRST_RETRY, LONGEST_RETRY = 2.0, 120.0
"""Seconds between attempts, doubling from the first to the longest."""
GIVE_UP = 86400.0
"""Seconds after which nobody wants to know any more."""
MOST = 100
"""Letters that wait for one target; beyond that the oldest is dropped."""
TESTS = 10
"""Test messages that wait for one target; who asks for more gets those."""
TOLD = 1000
"""Facts that are remembered as told; what people call a rest is a part of one, and there is no end to that."""
LATE = 60.0
"""Seconds after which a message says when it happened."""
LONGEST_SLEEP = 30.0
"""Seconds slept at most: trio's clock stops in suspend, and the wall clock may step."""
KEEP_AGAIN = 1.0
"""Seconds between attempts to keep in the state what waits."""
HANGS = 60.0
"""Seconds after which a target that says nothing has failed."""
GRACE = 2.0
"""Seconds that messages under way get when the daemon stops, so that the next one need not repeat them."""
_NOTHING: Mapping[str, float] = {}


class _Target:
    """One address and what waits for it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.key = _key(address)
        self.letters: dict[int, QueuedMessage] = {}
        self.tests = 0
        """Test messages asked for and not sent yet."""
        self.ok: bool | None = None
        self.error: str | None = None
        self.scope = trio.CancelScope()
        self._wake = trio.Event()

    def wake(self) -> None:
        """Have its task look again."""
        self._wake.set()

    async def wait(self, seconds: float = float("inf")) -> None:
        """Wait for `wake`, so long at most."""
        with trio.move_on_after(seconds):
            await self._wake.wait()
        self._wake = trio.Event()


class Notifier:
    """Keeps letters, and a task for each target that delivers them. `send` returns why it could not, or None."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        send: Callable[[str, str, str], Awaitable[str | None]] = targets.send,
    ) -> None:
        """Take up what the last daemon left. Raises `sqlite3.Error`."""
        self._store = store
        self._now = now
        self._send = send
        self._told, self._left = self._kept()
        """Letters for targets that are not configured, or not yet: the file may be broken for a while."""
        self._last = max(self._left, default=0)
        self._targets: dict[str, _Target] = {}
        self._events: frozenset[str] = frozenset()
        self._settings: Notify | None = None
        self._zone: tzinfo | None = None
        self._nursery: trio.Nursery | None = None
        self._sending: set[trio.CancelScope] = set()
        self._stopping = False
        self._unkept: dict[int, QueuedMessage | None] = {}
        """Letters by number that the state does not have as they are; None for one that is to go."""
        self._unkept_told: dict[str, float] = {}
        self._kept_last = self._last
        """The highest number that the state may have."""
        self._keep_later = trio.Event()
        self._failing = False

    def configure(self, settings: Notify, zone: tzinfo | None) -> None:
        """Put `[notify]` into force. What waits for a target that is gone is dropped with it."""
        if settings.targets:
            targets.overhear()
        before, self._targets = self._targets, {}
        self._settings, self._zone, self._events = settings, zone, frozenset(settings.events)
        for address in settings.targets:
            if (known := before.pop(address, None)) is not None:
                self._targets[address] = known
                known.wake()  # its quiet hours may have changed
                continue
            target = self._targets[address] = _Target(address)
            for number in [n for n, letter in self._left.items() if letter.target == target.key]:
                target.letters[number] = self._left.pop(number)
            if self._nursery is not None:
                self._nursery.start_soon(self._serve, target)
        old = self._now() - GIVE_UP
        gone = [number for number, letter in self._left.items() if letter.at < old]
        gone += (number for target in before.values() for number in target.letters)
        if gone:
            self._keep({}, gone)
        for target in before.values():
            target.scope.cancel()

    def take_up(self) -> None:
        """Go on from what the state keeps now, which another one has replaced."""
        self._told, self._left = self._kept()
        self._last = self._kept_last = max(self._last, *self._left, 0)
        self._unkept, self._unkept_told = {}, {}
        for target in self._targets.values():
            target.letters = {}
            for number in [n for n, letter in self._left.items() if letter.target == target.key]:
                target.letters[number] = self._left.pop(number)
            target.wake()

    def _kept(self) -> tuple[dict[str, float], dict[int, QueuedMessage]]:
        latest = self._now() + YEAR
        told = {fact: until for fact, until in self._store.told().items() if until <= latest}
        return told, self._store.queued()

    def take(self, event: Event) -> None:
        """Write the letters of an event, unless nobody wants it or the fact has been told."""
        if event.event not in self._events or not self._targets:
            return
        now = self._now()
        until = None if event.until is None else datetime.fromisoformat(event.until).timestamp()
        fact = _fact(event)
        if self._told.get(fact, 0.0) > now:
            return
        self._told = {name: end for name, end in self._told.items() if end > now}
        self._told[fact] = until if until is not None and until > now else now + AGAIN
        told = {fact: self._told[fact]}
        if len(self._told) > TOLD:
            oldest = next(iter(self._told))
            del self._told[oldest]
            told[oldest] = now  # which is over at once
        held = self._quiet_until(now) is not None
        message = f"{event.model}: {event.message}" if event.event == "switched" else event.message
        written: dict[int, QueuedMessage] = {}
        gone: list[int] = []
        for target in self._targets.values():
            self._last += 1
            letter = QueuedMessage(target.key, now, event.event, message, until, held)
            written[self._last] = target.letters[self._last] = letter
            if len(target.letters) > MOST:
                gone.append(next(iter(target.letters)))
                del target.letters[gone[-1]]
            target.wake()
        self._keep(written, gone, told)

    def test(self) -> int:
        """Send a test message to every target, quiet hours or not. Return how many there are."""
        for target in self._targets.values():
            target.tests = min(target.tests + 1, TESTS)
            target.ok = target.error = None
            target.wake()
        return len(self._targets)

    def infos(self) -> list[NotifyInfo]:
        """Describe every target for `status`, addresses masked."""
        return [
            NotifyInfo(target=targets.masked(t.address), ok=t.ok, error=t.error, waiting=len(t.letters) + t.tests)
            for t in self._targets.values()
        ]

    async def run(self) -> None:
        """Deliver for ever."""
        async with trio.open_nursery() as self._nursery:
            for target in self._targets.values():
                self._nursery.start_soon(self._serve, target)
            while True:
                await self._keep_later.wait()
                await trio.sleep(KEEP_AGAIN)
                self._keep_later = trio.Event()
                self.flush()

    def stop(self) -> None:
        """Begin nothing new; what is under way gets a moment."""
        self._stopping = True
        for scope in self._sending:
            scope.deadline = min(scope.deadline, trio.current_time() + GRACE)

    async def _serve(self, target: _Target) -> None:
        with target.scope:
            while True:
                try:
                    await self._next(target)
                except Exception:
                    log.exception("a notification target failed; please report this")
                    await trio.sleep(LONGEST_RETRY)

    async def _next(self, target: _Target) -> None:
        """Deliver what is first in line, or wait for its time."""
        now = self._now()
        if self._stopping or not (target.letters or target.tests):
            await target.wait()
            return
        if target.tests:
            target.tests -= 1
            await self._deliver(target, "this is a test, and it works", "test", self._tried)
            return
        number, letter = next(iter(target.letters.items()))
        at = max(min(letter.due, now + LONGEST_RETRY), self._quiet_until(now) or 0.0)
        if at > now:
            await target.wait(min(LONGEST_SLEEP, at - now))
        elif letter.held and letter.until is not None and letter.until <= now:
            self._drop(target, number)  # it is over, and nobody was to be woken for it
        else:
            late = f"{clock(letter.at, now, self._zone)} " if now - letter.at > LATE else ""
            await self._deliver(target, late + letter.message, letter.event, partial(self._settle, number, letter))

    async def _deliver(
        self, target: _Target, message: str, event: str, then: Callable[[_Target, str | None], None]
    ) -> None:
        """Send one message and do what follows from how that went, whatever ends the daemon in the meantime."""
        text = " ".join(f"rlmd: {message}".split())
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HANGS) as scope:
            self._sending.add(scope)
            try:
                then(target, await self._send(target.address, text, event))
            finally:
                self._sending.discard(scope)
        if scope.cancelled_caught and not self._stopping:
            then(target, f"it did not answer within {HANGS:g} s")

    def _tried(self, target: _Target, error: str | None) -> None:
        target.ok, target.error = error is None, error
        if error is None:
            for letter in target.letters.values():
                letter.due = 0.0  # it listens again, whatever told us so

    def _settle(self, number: int, letter: QueuedMessage, target: _Target, error: str | None) -> None:
        """Be done with a letter, or plan its next attempt."""
        self._tried(target, error)
        if target.letters.get(number) is not letter:
            return  # dropped in the meantime
        now = self._now()
        if error is None:
            self._drop(target, number)
        elif now - letter.at > GIVE_UP:
            log.warning("a message to %s is given up: %s", targets.masked(target.address), error)
            self._drop(target, number)
        else:
            if letter.tries == 0:
                log.warning("%s: %s; tried again until it works", targets.masked(target.address), error)
            letter.due = now + min(FIRST_RETRY * 2 ** min(letter.tries, 10), LONGEST_RETRY)
            letter.tries += 1
            self._keep({number: letter}, [])

    def _drop(self, target: _Target, number: int) -> None:
        del target.letters[number]
        self._keep({}, [number])

    def _keep(self, written: dict[int, QueuedMessage], gone: list[int], told: Mapping[str, float] = _NOTHING) -> None:
        """Have the state say the same as memory."""
        self._unkept.update(written)
        for number in gone:
            if number > self._kept_last:
                self._unkept.pop(number, None)
            else:
                self._unkept[number] = None
        self._unkept_told.update(told)
        self.flush()

    def flush(self) -> None:
        """Write what the state does not have yet. Where that cannot be now, it is tried again every second.

        A disk that fails costs no message; only a daemon that ends meanwhile forgets.
        """
        if not (self._unkept or self._unkept_told):
            return
        if self._store.paused:
            self._keep_later.set()
            return
        rows = {n: msgspec.json.encode(letter) for n, letter in self._unkept.items() if letter is not None}
        gone = [number for number, letter in self._unkept.items() if letter is None]
        try:
            self._store.keep_queued(rows, gone, self._unkept_told, self._now())
        except (OSError, sqlite3.Error) as error:
            if not self._failing:
                log.warning("notifications cannot be kept on the disk: %s; tried again every second", error)
            self._failing = True
            self._keep_later.set()
        else:
            self._unkept, self._unkept_told, self._kept_last, self._failing = {}, {}, self._last, False

    def _quiet_until(self, now: float) -> float | None:
        """Tell when the quiet hours end that we are in; None outside of them."""
        if self._settings is None or self._settings.quiet_hours is None:
            return None
        begin, end = self._settings.quiet_hours
        local = datetime.fromtimestamp(now, self._zone or UTC)
        time = local.time()
        if not (begin <= time < end if begin <= end else time >= begin or time < end):
            return None
        day = local.date() if time < end else local.date() + timedelta(days=1)
        return datetime.combine(day, end, self._zone or UTC).timestamp()


def _key(address: str) -> str:
    """Name a target in the state without its address."""
    return blake2b(address.encode(), digest_size=12).hexdigest()


def _fact(event: Event) -> str:
    """Name what an event says, so that it is told once. What it says of a limit is in its message alone."""
    of_limit = event.message if event.reason == "limit" and event.event != "switched" else ""
    parts = (event.event, event.provider, event.model, event.to, event.reason, of_limit)
    return "/".join(part or "" for part in parts)
