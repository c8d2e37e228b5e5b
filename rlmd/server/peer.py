"""The process at the other end of a Unix socket, as the system knows it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

_LOCAL_PEERCRED = 1
_SOL_LOCAL = 0
_UCRED = struct.Struct("3i")
_XUCRED_HEAD = struct.Struct("Ii")


def uid(connection: trio.socket.SocketType) -> int:
    """Return the user id of the process that connected. Raises OSError."""
    if sys.platform == "darwin":
        head = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        return int(_XUCRED_HEAD.unpack_from(head)[1])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[1])


def is_allowed(connection: trio.socket.SocketType) -> bool:
    """Whether the peer's user owns this process, or is root, who could read its memory anyway."""
    try:
        return uid(connection) in {0, os.geteuid()}
    except OSError:
        return False


def name(pid: int | None) -> str | None:
    """Return the system's name of a process; None where there is none."""
    if pid is None:
        return None
    if sys.platform == "darwin":
        import psutil  # noqa: PLC0415  (megabytes, for what Linux has in a file)

        with suppress(psutil.Error):
            return psutil.Process(pid).name()
        return None
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    return None
