"""The service manager's side: its messages (sd_notify) and the sockets that it hands over."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

LISTEN_FDS_START = 3


class HandoverError(Exception):
    """What the service manager handed over is no socket that can be served; the message says where to look."""


def notify(state: str) -> None:
    """Tell systemd a state such as `READY=1`; without systemd, or where it does not listen, nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_period() -> float | None:
    """Seconds between signs of life, half of what systemd allows; None where it does not ask."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 / 2


def handed_over() -> socket.socket | None:
    """The listening socket that systemd opened for us, if it did; its variables are taken out of the environment.

    Raises `HandoverError`.
    """
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if pid != str(os.getpid()) or count in {"", "0"}:
        return None
    try:
        os.set_inheritable(LISTEN_FDS_START, False)
        handed = socket.socket(fileno=LISTEN_FDS_START)
    except OSError as error:
        raise HandoverError(f"{_WRONG_UNIT} It is no socket ({error.strerror}).") from None
    if (handed.family, handed.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        handed.close()
        raise HandoverError(f"{_WRONG_UNIT} It is no Unix stream socket.")
    if not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        handed.close()
        raise HandoverError(f"{_WRONG_UNIT} It is one connection: take Accept=yes out.")
    return handed


_WRONG_UNIT = "The service manager handed over something else than the listening socket of rlmd.socket."
