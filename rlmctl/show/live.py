"""`status --watch`: the status again whenever it is another one. The daemon says when; nobody asks it in the meantime.

What it cannot say is what only time changes: how long something still takes. That is worked out here, from the last
reply; the daemon is asked again where a time that it named has come.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlmctl.errors import FINE
from rlmctl.show.text import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlmd.client.connection import Client

CALM = 0.2
"""Seconds from one look to the next at the least, however much happens."""


def watch(daemon: Client, show: Callable[[dict[str, Any]], None] | None) -> int:
    """Show the status until somebody interrupts: as `show` prints it, or as a table that stays where it is."""
    with contextlib.suppress(KeyboardInterrupt):
        if show is not None:
            _print(daemon, show)
        else:
            _draw(daemon)
    return FINE


def moments(daemon: Client, resized: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the status now, and again whenever it may have to be shown anew.

    `resized` is a descriptor that has something to read when the screen is another one.
    """
    daemon.request("subscribe", events=["changed"])
    while True:
        status, asked = daemon.request("status"), time.monotonic()
        due = _due(status, time.time())
        changed = False
        while not changed and time.time() < due:
            yield status
            changed = _wait(daemon, resized, min(due, _next_word(status, time.time())) - time.time())
        time.sleep(max(0.0, asked + CALM - time.monotonic()))


def _wait(daemon: Client, resized: int | None, seconds: float) -> bool:
    """Wait so long, or for something to happen: whether the daemon says that the status has changed."""
    if daemon.event(0):
        return True
    awaited: list[Client | int] = [daemon] if resized is None else [daemon, resized]
    ready, _, _ = select.select(awaited, [], [], max(0.0, seconds))
    if resized is not None and resized in ready:
        os.read(resized, 4096)
    return daemon in ready and daemon.event(daemon.deadline) is not None


def _times(status: dict[str, Any], now: float) -> list[float]:
    """List the times of a status that are still to come."""
    stamps = [
        stamp
        for provider in status["providers"]
        for stamp in (
            provider["until"],
            *(limit["resets_at"] for limit in provider["limits"]),
            *(blocked["until"] for blocked in provider["blocked"]),
        )
        if stamp
    ]
    return [at for stamp in stamps if (at := datetime.fromisoformat(stamp).timestamp()) > now]


def _due(status: dict[str, Any], now: float) -> float:
    """Return when the daemon will have something else to say although nothing happens."""
    return min(_times(status, now), default=float("inf")) + CALM


def _next_word(status: dict[str, Any], now: float) -> float:
    """Return when a span that is shown reads otherwise: after a second where seconds are shown, else a minute."""
    left = [at - now for at in _times(status, now)]
    up = now - datetime.fromisoformat(status["daemon"]["started_at"]).timestamp()
    return now + (1.0 if min(up, *left, 2 * MINUTE) < 2 * MINUTE else MINUTE)


def _print(daemon: Client, show: Callable[[dict[str, Any]], None]) -> None:
    """Print what `show` prints, where it is not what it printed last."""
    last = ""
    for status in moments(daemon):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            show(status)
        if printed.getvalue() != last:
            last = printed.getvalue()
            print(last, end="", flush=True)


def _draw(daemon: Client) -> None:
    from rich.live import Live

    from rlmctl.insight.forecast import saved
    from rlmctl.show.status_table import picture
    from rlmctl.show.terminal import console

    screen = console()
    last, gained_at, endings = None, float("-inf"), []
    with _resizes() as resized, Live(console=screen, screen=screen.is_terminal, auto_refresh=False) as live:
        for status in moments(daemon, resized):
            if status is not last and time.monotonic() > gained_at + MINUTE:
                gained_at, endings = time.monotonic(), saved(daemon)
            if screen.is_terminal:
                live.update(picture(status, endings, datetime.now(UTC), screen), refresh=True)
            elif status is not last:
                screen.print(picture(status, endings, datetime.now(UTC), screen), "", soft_wrap=True)
            last = status


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """Give a descriptor that can be read after the terminal was resized."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        yield read
    finally:
        signal.signal(signal.SIGWINCH, handler)
        signal.set_wakeup_fd(woken)
        os.close(read)
        os.close(write)
