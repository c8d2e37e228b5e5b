"""What `doctor` says of the service manager: whether it keeps the daemon, and what is wrong where it cannot."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl.daemon import autostart
from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmctl.daemon.services.systemd import UserUnits
    from rlmd.paths import Paths

NAME = "service"
LINGERING = Path("/var/lib/systemd/linger")
"""Where logind keeps the names of those whose services outlive their sessions."""


def service(paths: Paths) -> Iterator[Check]:
    """Check the service manager's part."""
    if sys.platform == "darwin":
        yield from _launchd(paths)
    else:
        yield from _systemd(paths)


def _systemd(paths: Paths) -> Iterator[Check]:
    from rlmctl.daemon.services.systemd import UserUnits

    units = UserUnits(paths)
    path = units.listen_stream()
    if path is None:
        if units.manager() is None:
            yield Check(NAME, "ok", f"there is no service manager here: {_who_starts(paths)}")
        else:
            meaning = "none keeps the daemon: it does not come back after a crash or a login"
            yield Check(NAME, "warning", meaning, "rlmctl install systemd")
        return
    if not units.installed():
        yield Check(NAME, "warning", f"the one that is installed serves {path}", "rlmctl install systemd")
        return
    if units.manager() is None:
        meaning = "it is installed, but no systemd of yours answers here (over su or sudo there is none)"
        yield Check(NAME, "warning", meaning, f"export XDG_RUNTIME_DIR=/run/user/{os.geteuid()}")
        return
    yield _life(units)
    if outdated := units.outdated():
        meaning = f"of another version: {', '.join(path.name for path in outdated)}"
        yield Check("units", "wrong", meaning, "rlmctl install systemd")
    else:
        yield Check("units", "ok", f"{units.directory} is up to date")


def _who_starts(paths: Paths) -> str:
    if autostart.is_wanted(paths):
        return "whoever needs the daemon first starts it"
    return "the daemon comes with `rlmctl start` only"


def _life(units: UserUnits) -> Check:
    """Say whether the service lives, and if not, why."""
    from rlmctl.daemon.services.systemd import SOCKET

    door = units.state(SOCKET, "ActiveState", "Result")
    daemon = units.settled("Result", "NRestarts")
    said = daemon.get("StatusText", "")
    if "start-limit-hit" in door.get("Result", "") + daemon.get("Result", ""):
        meaning = f"it failed so often that systemd gave up, and closed the socket{_because(said)}"
        return Check(NAME, "wrong", meaning, "rlmctl start")
    if daemon.get("SubState") not in {"running", "dead"}:
        meaning = f"it starts and fails again and again ({daemon.get('NRestarts')} times){_because(said)}"
        mend = "do that, then: rlmctl restart" if said else "journalctl --user -u rlmd -n 30; then: rlmctl restart"
        return Check(NAME, "wrong", meaning, mend)
    if door.get("ActiveState") != "active":
        return Check(NAME, "wrong", "it is installed and stopped", "rlmctl start")
    again = "" if daemon.get("NRestarts", "0") == "0" else f", and had to start it again ({daemon['NRestarts']})"
    return Check(NAME, "ok", f"systemd keeps the daemon{again}; {_logging_out()}")


def _because(said: str) -> str:
    return f": {said}" if said else ""


def _logging_out() -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    if (LINGERING / user).exists():
        return "it stays when you log out"
    return "it ends when you log out (to keep it: loginctl enable-linger)"


def _launchd(paths: Paths) -> Iterator[Check]:
    from rlmctl.daemon.services.launchd import LaunchAgent

    agent = LaunchAgent(paths)
    path = agent.listen_path()
    if path is None:
        meaning = "none keeps the daemon: it does not come back after a crash or a login"
        yield Check(NAME, "warning", meaning, "rlmctl install launchd")
    elif not agent.installed():
        yield Check(NAME, "warning", f"the one that is installed serves {path}", "rlmctl install launchd")
    elif not agent.listens():
        yield Check(NAME, "wrong", "it is installed and not loaded", "rlmctl start")
    elif agent.outdated():
        yield Check(NAME, "wrong", f"{agent.path} is of another version", "rlmctl install launchd")
    else:
        yield Check(NAME, "ok", "launchd keeps the daemon")
