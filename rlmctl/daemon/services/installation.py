"""What `install` and `uninstall` do with a service manager: hand the daemon over to it, and take it back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rlmctl.daemon.process import end, running
from rlmctl.daemon.services.launchd import LaunchAgent
from rlmctl.daemon.services.systemd import UserUnits
from rlmctl.errors import UNREACHABLE, CommandError

if TYPE_CHECKING:
    from rlmctl.daemon.services import Service
    from rlmd.paths import Paths


def service_manager(paths: Paths) -> str | None:
    """Name the service manager that runs here for this person, or None where there is none."""
    if sys.platform == "darwin":
        return "launchd"
    return "systemd" if UserUnits(paths).manager() is not None else None


def install_service(what: str, paths: Paths, *, strict: bool = False, dry_run: bool = False) -> list[str]:
    """Have the service manager keep the daemon, and see that it answers. Returns what was done, as sentences.

    Doing it again brings everything up to date, a daemon of another version included. Raises `CommandError`.
    """
    from rlmd.address import check_socket

    check_socket(paths.socket)
    service = UserUnits(paths) if what == "systemd" else LaunchAgent(paths)
    done, stale = service.install(strict=strict, dry_run=dry_run)
    if dry_run:
        return done
    try:
        daemon = _bring_up(service, paths, stale=stale)
    except CommandError as error:
        if not strict or not isinstance(service, UserUnits):
            raise
        service.relax()
        _bring_up(service, paths, stale=True)
        message = f"This system does not start the daemon under --strict: {error} It runs without."
        raise CommandError(message, error.mend) from None
    done.append(f"The daemon answers at {paths.socket} (process {daemon['pid']}), and {service.name} keeps it.")
    return done


def uninstall_service(what: str, paths: Paths, *, dry_run: bool = False) -> list[str]:
    """Take the daemon out of the service manager. Returns what was done, as sentences. Raises `CommandError`."""
    service = UserUnits(paths) if what == "systemd" else LaunchAgent(paths)
    return service.uninstall(dry_run=dry_run)


def _bring_up(service: Service, paths: Paths, *, stale: bool) -> dict[str, Any]:
    """Have the daemon run as it is installed; return what it says of itself. Raises `CommandError`."""
    from rlmd import __version__

    if not service.listens():
        end(paths)  # a daemon that was started by hand holds the lock
        service.start()
    elif stale:
        service.restart()
    elif service.pid() is None:
        service.start()
    daemon = running(paths)
    if daemon is not None and daemon["version"] != __version__:
        service.restart()
        daemon = running(paths)
    if daemon is None:
        raise CommandError(f"{service.name} started the daemon, and it does not answer.", "rlmctl doctor", UNREACHABLE)
    return daemon
