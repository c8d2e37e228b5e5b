"""The service manager's side: its messages (sd_notify) and the sockets that it hands over."""

from __future__ import annotations

import os
import socket
import stat

LISTEN_FDS_START = 3


def notify(state: str) -> None:
    """Tell systemd a state such as `READY=1`; without systemd, or to an address we cannot reach, nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address[0] == "@" else address)
        channel.sendall(state.encode())


def watchdog_period() -> float | None:
    """Seconds between signs of life, half of what systemd allows; None where it does not ask."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 / 2


def handed_over() -> socket.socket | None:
    """The listening socket that systemd opened for us, if it did; its variables are taken out of the environment.

    Raises RuntimeError for something that is no Unix stream socket.
    """
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    count = int(os.environ.get("LISTEN_FDS", "0")) if mine else 0
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if count == 0:
        return None
    if not stat.S_ISSOCK(os.fstat(LISTEN_FDS_START).st_mode):
        raise RuntimeError("the descriptor that was handed over is no socket: look at rlmd.socket")
    os.set_inheritable(LISTEN_FDS_START, False)
    listener = socket.socket(fileno=LISTEN_FDS_START)
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        raise RuntimeError("rlmd.socket must be ListenStream= on a path")
    return listener
