"""A socket between a shim and its daemon: it keeps what the shim says, and lets answers take their time."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def between(path: Path, daemon: Path, delay: float = 0.0) -> Iterator[list[dict[str, Any]]]:
    """Stand at `path` between a shim and the daemon at its socket, and keep what the shim says.

    Each line of the daemon arrives `delay` seconds after it was written.
    """
    said: list[dict[str, Any]] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, far = server.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(str(daemon))
                _start(_hand_on, near, far, said)
                _start(_delay, far, near, delay)

    _start(accept)
    yield said
    server.close()


def _start(target: Any, *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _hand_on(shim: socket.socket, daemon: socket.socket, said: list[dict[str, Any]]) -> None:
    with suppress(OSError), shim.makefile("rb") as lines, daemon:
        for line in lines:
            said.append(json.loads(line))
            daemon.sendall(line)


def _delay(daemon: socket.socket, shim: socket.socket, delay: float) -> None:
    due: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()

    def deliver() -> None:
        with suppress(OSError), shim:
            while item := due.get():
                time.sleep(max(0.0, item[0] - time.monotonic()))
                shim.sendall(item[1])

    _start(deliver)
    with suppress(OSError), daemon.makefile("rb") as lines:
        for line in lines:
            due.put((time.monotonic() + delay, line))
    due.put(None)
