"""The service manager's side: messages to systemd (sd_notify), and the socket that it or launchd hands over."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from contextlib import suppress
from typing import Any

LISTEN_FDS_START = 3
LAUNCHD_SOCKET = b"Listener"
"""What launchd/dev.rlmd.plist calls the socket."""


class HandoverError(Exception):
    """What the service manager handed over is no socket that can be served; the message says where to look."""


def is_listening() -> bool:
    """Tell whether systemd wants to know the state of this process."""
    return os.environ.get("NOTIFY_SOCKET", "")[:1] in {"/", "@"}


def notify(state: str) -> None:
    """Tell systemd a state such as `READY=1`; without systemd, or where it does not listen, nothing."""
    if not is_listening():
        return
    address = os.environ["NOTIFY_SOCKET"]
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
    """The listening socket that systemd or launchd opened for us, if one did. Raises `HandoverError`."""
    descriptor = launchd_descriptor(ctypes.CDLL(None)) if sys.platform == "darwin" else _systemd_descriptor()
    if descriptor is None:
        return None
    try:
        os.set_inheritable(descriptor, False)
        handed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise HandoverError(f"{_WRONG_UNIT} It is no socket ({error.strerror}).") from None
    if (handed.family, handed.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        handed.close()
        raise HandoverError(f"{_WRONG_UNIT} It is no Unix stream socket.")
    if not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        handed.close()
        raise HandoverError(f"{_WRONG_UNIT} It is one connection: take Accept=yes out.")
    return handed


def _systemd_descriptor() -> int | None:
    """Tell whether systemd handed a socket to this process; its variables are taken out of the environment."""
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):
        os.environ.pop(name, None)
    return None if pid != str(os.getpid()) or count in {"", "0"} else LISTEN_FDS_START


def launchd_descriptor(system: Any) -> int | None:
    """Fetch our socket from launchd through the C library `system`; None where launchd did not start us.

    Raises `HandoverError`.
    """
    descriptors, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    number = system.launch_activate_socket(LAUNCHD_SOCKET, ctypes.byref(descriptors), ctypes.byref(count))
    if number == errno.ESRCH:
        return None
    if number or not count.value:
        why = os.strerror(number) if number else "it opened none"
        raise HandoverError(f"launchd does not hand the socket over ({why}). Mend: rlmctl install launchd")
    descriptor: int = descriptors[0]
    system.free(descriptors)
    return descriptor


_WRONG_UNIT = "The service manager handed over something else than the listening socket of rlmd.socket."
