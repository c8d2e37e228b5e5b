"""The service managers that can run the daemon, a file each: systemd's for a user's units, and launchd.

Owns the answer to who keeps the daemon behind a socket. The files that it installs are shipped beside this one;
in a checkout they are at its root.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rlmd.paths import Paths


class Service(Protocol):
    """The daemon as a service manager keeps it."""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""

    def listens(self) -> bool:
        """Whether the service manager holds the socket now."""

    def pid(self) -> int | None:
        """Return the daemon's process, or None where it does not run."""

    def start(self) -> None:
        """Have the socket served; past failures are forgiven. Raises `CommandError`."""

    def stop(self) -> None:
        """Stop the daemon, and the socket with it. Raises `CommandError`."""

    def restart(self) -> None:
        """Replace the daemon behind its socket, which stays. Raises `CommandError`."""


def serving(paths: Paths) -> Service | None:
    """Return the installed service that serves this very socket, if there is one."""
    service: Service
    if sys.platform == "darwin":
        from rlmctl.daemon.services.launchd import LaunchAgent

        service, installed = (agent := LaunchAgent(paths)), agent.installed()
    else:
        from rlmctl.daemon.services.systemd import UserUnits

        service, installed = (units := UserUnits(paths)), units.installed()
    return service if installed else None


def shipped(folder: str) -> Path:
    """Return the directory of the files for a service manager."""
    packaged = Path(__file__).with_name(folder)
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / folder
