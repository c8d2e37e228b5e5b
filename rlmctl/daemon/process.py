"""The daemon's process: started, found, replaced, ended.

Where a service manager keeps the daemon, it does the work. Elsewhere a daemon started here belongs to no terminal:
it has a session of its own and the log of `rlmctl paths`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.daemon import autostart
from rlmctl.daemon.connection import connect
from rlmctl.daemon.services import serving
from rlmctl.errors import UNREACHABLE, WRONG, CommandError
from rlmd.client.connection import Client, DaemonHangsError, DaemonNotRunningError

if TYPE_CHECKING:
    from psutil import Process

    from rlmd.paths import Paths

SECRET = re.compile(r"(KEY|KEY_ID|TOKEN|SECRET|PASSWORD|CREDENTIALS)$", re.IGNORECASE)
"""How variables are called that hold what a provider wants to see."""
PATIENCE = 10.0
"""Seconds that the daemon may take to come up."""
DRAINED = 6.0
"""Seconds that it may take to finish what it has begun and go: it promises five."""
GLANCE = 0.05
"""Seconds between two looks. Half the daemon's own start-up would be lost by looking less often."""
HUNG_AFTER = 2.0
"""Seconds without an answer to `shutdown` after which the process itself is told to end."""
LAST_LINES = 15
LOG_KEPT = 4 * 1024 * 1024
"""Bytes of the log beyond which a start puts it aside as `rlmd.log.1`, for one that was put aside before."""


def running(paths: Paths) -> dict[str, Any] | None:
    """Return what the daemon says of itself in `status`, or None where none runs."""
    try:
        with connect(paths, deadline=PATIENCE) as daemon:
            found: dict[str, Any] = daemon.request("status")["daemon"]
    except DaemonNotRunningError:
        return None
    return found


def replace(paths: Paths) -> int:
    """Stop the daemon if one runs, wait until it is gone, start it. Return its process id. Raises `CommandError`."""
    service = serving(paths)
    if service is not None and service.listens():
        service.restart()
        return _pid(paths)
    end(paths)
    pid, _ = launch(paths)
    return pid


def launch(paths: Paths) -> tuple[int, bool]:
    """Start a daemon unless one answers. Return its process id and whether it ran before.

    Raises `CommandError`, with the last lines of its log, if none answers in the end.
    """
    service = serving(paths)
    if service is not None and service.listens():
        already = service.pid() is not None
        if not already:
            service.start()  # and not by connecting: a service that cannot start is to say so
        return _pid(paths), already
    try:
        pid, already = _pid(paths), True
    except DaemonNotRunningError:
        if service is not None:
            service.start()
            return _pid(paths), False
        pid, already = _spawn(paths)
    autostart.remember(paths, "start")
    return pid, already


def _spawn(paths: Paths) -> tuple[int, bool]:
    log = _open_log(paths)
    try:
        begin = os.lseek(log, 0, os.SEEK_END)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "rlmd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=paths.state_dir,
            env=_inherited(paths) | environment(paths),
            start_new_session=True,
        )
    finally:
        os.close(log)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended = child.poll() is not None
        try:
            pid = _pid(paths)
        except DaemonNotRunningError:
            if ended:
                break
            time.sleep(GLANCE)
        else:
            # Another start at the same moment may have won: then our child has stepped back.
            return pid, pid != child.pid
    happened = f"ended at once (exit code {child.returncode})" if child.returncode is not None else "does not answer"
    said = "".join(f"\n  | {line}" for line in _lines_since(paths.log, begin))
    raise CommandError(f"The daemon {happened}. Its log says:{said}", "rlmctl doctor", UNREACHABLE)


def _inherited(paths: Paths) -> dict[str, str]:
    """Return what a daemon of its own takes over of our variables.

    Not the place of the service that runs us; and no key, which an agent's environment is full of, unless the
    configuration names it as a notification target.
    """
    named = paths.config.read_text(encoding="utf-8", errors="replace") if paths.config.is_file() else ""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "NOTIFY_SOCKET" and (f"env:{name}" in named or not SECRET.search(name))
    }


def end(paths: Paths) -> int | None:
    """Stop the daemon and wait until its process is gone. Return its id, or None if none ran."""
    from psutil import NoSuchProcess, Process

    service = serving(paths)
    if service is not None and service.listens():
        pid = service.pid()
        service.stop()
        return pid
    try:
        with connect(paths, deadline=HUNG_AFTER) as daemon:
            try:
                pid = int(daemon.request("status")["daemon"]["pid"])
                process = Process(pid)
                with suppress(DaemonNotRunningError):  # it may be gone before its reply is out
                    daemon.request("shutdown")
            except DaemonHangsError:
                process = _behind(daemon)
                process.terminate()
    except (DaemonNotRunningError, NoSuchProcess):
        return None
    until = time.monotonic() + DRAINED
    while _lives(process):
        if time.monotonic() > until:
            # What it has recorded is on the disk: nothing is lost by this.
            process.kill()
        time.sleep(GLANCE)
    return process.pid


def environment(paths: Paths) -> dict[str, str]:
    """Return the variables that give a process these very paths, wherever it is started."""
    return {
        "RLMD_CONFIG": str(paths.config),
        "RLMD_STATE_DIR": str(paths.state_dir),
        "RLMD_SOCKET": str(paths.socket),
    }


def _pid(paths: Paths) -> int:
    with connect(paths, deadline=PATIENCE) as daemon:
        return int(daemon.request("status")["daemon"]["pid"])


def _behind(daemon: Client) -> Process:
    """Return the process that listens at a socket, also when it hangs: the system knows it."""
    import socket
    import struct

    from psutil import Process

    with socket.socket(socket.AF_UNIX) as line:
        line.connect(daemon.path)
        if sys.platform == "darwin":
            local, peer_pid = 0, 2
            process = Process(line.getsockopt(local, peer_pid))
        else:
            pid, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            process = Process(pid)
    if all(Path(word).name != "rlmd" for word in process.cmdline()):
        raise CommandError(
            f"Process {process.pid} ({process.name()}) holds the socket {daemon.path}, and it is no rlmd.",
            "rlmctl paths",
            UNREACHABLE,
        )
    return process


def _lives(process: Process) -> bool:
    from psutil import STATUS_ZOMBIE, NoSuchProcess

    try:
        return process.is_running() and process.status() != STATUS_ZOMBIE
    except NoSuchProcess:
        return False


def _open_log(paths: Paths) -> int:
    try:
        with suppress(FileExistsError):  # if it is there as a file, opening the log says so better
            paths.state_dir.mkdir(mode=0o700, parents=True)
        with suppress(FileNotFoundError):
            if paths.log.stat().st_size > LOG_KEPT:
                paths.log.replace(paths.log.with_name(f"{paths.log.name}.1"))
        return os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(
            f"The state directory cannot be used: {error.strerror}: {error.filename}.",
            f"make {paths.state_dir} a directory of your own (chmod 700), or set RLMD_STATE_DIR to one",
            WRONG,
        ) from None


def _lines_since(log: Path, begin: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
