"""Agents that work without a pause while the daemon is replaced under them, and an rlmd of another version."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rlmd.client.connection import Client, DaemonNotRunningError, DaemonUnreachableError

if TYPE_CHECKING:
    from typing import Self

CHECKOUT = Path(__file__).parents[2]
OLD = "0.0.9"


class Agents:
    """Several that ask and report as the shim does: a report goes out again until it is recorded."""

    def __init__(self, socket: Path, provider: str, model: str, count: int = 4) -> None:
        self.recorded = 0
        self.absent = 0
        """How often there was nobody to connect to."""
        self._asked = {"provider": provider, "model": model}
        self._socket = socket
        self._counting = threading.Lock()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _work(self) -> None:
        unrecorded: dict[str, str] | None = None
        while unrecorded or not self._done.is_set():
            try:
                client = Client(self._socket, 20)
            except DaemonNotRunningError:
                self.absent += 1
                self._done.wait(0.01)
                continue
            with client, suppress(DaemonUnreachableError):
                client.request("hello", client="opencode-shim", version=OLD)
                while unrecorded or not self._done.is_set():
                    if unrecorded is None:
                        use = client.request("acquire", **self._asked)
                        unrecorded = {name: use[name] for name in ("provider", "model", "lease")}
                    client.request("report", outcome="ok", **unrecorded)
                    unrecorded = None
                    with self._counting:
                        self.recorded += 1


def older_rlmd(place: Path) -> Path:
    """Put what an older release installed into a directory, for Python to import from; return the directory."""
    for name in ("rlmd", "rlmctl", "systemd", "launchd"):
        shutil.copytree(CHECKOUT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, now, then in (
        ("rlmd/__init__.py", "__version__ = ", f'__version__ = "{OLD}"  # '),
        ("systemd/rlmd.service", "WatchdogSec=60", "WatchdogSec=90"),
    ):
        text = (place / name).read_text()
        assert now in text
        (place / name).write_text(text.replace(now, then))
    return place
