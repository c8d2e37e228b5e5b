"""A daemon of its own for the demo, in a temporary directory: nothing of the person's is read or touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl.daemon.process import environment
from rlmd.address import PathTooLongError, check_socket
from rlmd.client.connection import Client, DaemonUnreachableError
from rlmd.paths import resolve

if TYPE_CHECKING:
    from typing import Self

PATIENCE = 8.0
GLANCE = 0.02
LAST_LINES = 15
NOT_OURS = ("RLMD_", "SLACK_WEBHOOK", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")
"""Variables that would tie the daemon to the person's own things: its notifications, its service manager."""


class StageError(Exception):
    """The daemon did not come up; the message holds what it said."""


class Stage:
    """Runs the daemon with this configuration for as long as the `with` block lasts."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory = _short_directory()
        self.paths = resolve(
            {"RLMD_CONFIG": str(self.directory / "config.toml"), "RLMD_STATE_DIR": str(self.directory / "state")}
        )
        self.paths.state_dir.mkdir(mode=0o700)
        self.paths.config.write_text(self._config)
        self.variables = environment(self.paths)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start the daemon and wait until it answers. Raises `StageError`."""
        with self.paths.log.open("ab") as log:
            theirs = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
            self._daemon = subprocess.Popen(
                [sys.executable, "-P", "-m", "rlmd"], env=theirs | self.variables, stdout=log, stderr=log
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._daemon.poll() is None:
            try:
                with self.connect() as daemon:
                    daemon.request("ping")
            except DaemonUnreachableError:
                time.sleep(GLANCE)
            else:
                return
        raise StageError(f"The daemon did not come up:\n{self.last_lines()}")

    def kill(self) -> None:
        """End the daemon as a power cut would: it gets no chance to write anything."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()

    def connect(self) -> Client:
        """Connect to the daemon."""
        return Client(self.paths.socket)

    def last_lines(self) -> str:
        """Return the end of the daemon's log."""
        return "\n".join(self.paths.log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def status(self) -> str:
        """Return the daemon's text of its status."""
        with self.connect() as daemon:
            return str(daemon.request("status")["text"])


def _short_directory() -> Path:
    """Return a new directory in which a socket finds room: on some systems the usual place is too long."""
    directory = Path(tempfile.mkdtemp(prefix="rlmd-demo-"))
    try:
        check_socket(directory / "state" / "rlmd.sock")
    except PathTooLongError:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="rlmd-demo-", dir="/tmp"))
    return directory
