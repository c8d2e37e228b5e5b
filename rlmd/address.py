"""Where the socket is, in strings: all that a program that only asks has to know, at no cost worth mentioning.

Every prompt and status line pays for what is imported here: no pathlib, no typing, and platformdirs only where the
answer is not plain.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_LIMIT = 103 if sys.platform == "darwin" else 107
"""Bytes of a Unix socket's path that the platform takes, its closing NUL not counted."""


class PathTooLongError(ValueError):
    """The socket's path is longer than the platform can bind or connect to."""


def have_a_home() -> None:
    """Give a user that the system does not know `/` for a home, as containers do.

    What cannot be used there is then told with its mend, like every directory.
    """
    if "HOME" not in os.environ and os.path.expanduser("~") == "~":  # noqa: PTH111  (no pathlib here)
        os.environ["HOME"] = "/"


def state_directory(environ: Mapping[str, str]) -> str:
    """Return the state directory, as an absolute path: `RLMD_STATE_DIR`, else the platform's own."""
    if given := environ.get("RLMD_STATE_DIR"):
        return absolute(given)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  (no pathlib here)
    if sys.platform == "linux" and base.startswith("/"):
        return os.path.join(base, "rlmd")  # noqa: PTH118
    from platformdirs import user_state_dir  # noqa: PLC0415  (it costs as much as a third of a bare start of Python)

    return user_state_dir("rlmd")


def socket_address(environ: Mapping[str, str] = os.environ) -> str:
    """Return the socket's path: `RLMD_SOCKET`, else `rlmd.sock` in the state directory."""
    if given := environ.get("RLMD_SOCKET"):
        return absolute(given)
    return os.path.join(state_directory(environ), "rlmd.sock")  # noqa: PTH118


def check_socket(path: str | os.PathLike[str]) -> None:
    """Raise `PathTooLongError`, with the mend in its message, if no socket can have this path."""
    length = len(os.fsencode(path))
    if length > SOCKET_LIMIT:
        raise PathTooLongError(
            f"The socket's path is {length} bytes long and this system takes at most {SOCKET_LIMIT}: {path}. "
            "Set RLMD_SOCKET to a shorter path, for the daemon and the agent alike."
        )


def absolute(path: str) -> str:
    """Return a path from the working directory on, as it is written."""
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118
