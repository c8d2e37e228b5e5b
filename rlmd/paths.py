"""Where things are: the one answer for the daemon, the client and the installers.

Owns the rules of names and places; touches no file. It is on the client's fastest path, so it imports next to
nothing: platformdirs only where the environment leaves something open.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_LIMIT = 103 if sys.platform == "darwin" else 107
"""Bytes of a Unix socket's path that the platform takes, its closing NUL not counted."""


class PathTooLongError(ValueError):
    """The socket's path is longer than the platform can bind or connect to."""


class Paths(NamedTuple):
    """Everything that has a place, as absolute paths. Nothing of it need exist."""

    config: Path
    state_dir: Path
    database: Path
    socket: Path
    log: Path


def resolve(environ: Mapping[str, str] = os.environ) -> Paths:
    """Return where everything is.

    `RLMD_CONFIG`, `RLMD_STATE_DIR` and `RLMD_SOCKET` in `environ` decide, taken as they are (no `~`, no
    variables: a shim could not repeat that); an empty one counts as not set. The platform's own directories,
    by the environment of the process, answer the rest. Never raises for a socket path that is too long, so
    that it can be shown: see `check_socket`.
    """
    state_dir = _given(environ, "RLMD_STATE_DIR") or _platform_state_dir()
    return Paths(
        config=_given(environ, "RLMD_CONFIG") or _platform_config(),
        state_dir=state_dir,
        database=state_dir / "state.db",
        socket=_given(environ, "RLMD_SOCKET") or state_dir / "rlmd.sock",
        log=state_dir / "rlmd.log",
    )


def check_socket(path: Path) -> None:
    """Raise `PathTooLongError`, with the mend in its message, if no socket can have this path."""
    length = len(os.fsencode(path))
    if length > SOCKET_LIMIT:
        raise PathTooLongError(
            f"The socket's path is {length} bytes long and this system takes at most {SOCKET_LIMIT}: {path}. "
            "Set RLMD_SOCKET to a shorter path, for the daemon and the agent alike."
        )


def _given(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name)
    return Path(value).absolute() if value else None


def _platform_config() -> Path:
    from platformdirs import user_config_path  # noqa: PLC0415  (15 ms that a fully told client need not pay)

    return user_config_path("rlmd") / "config.toml"


def _platform_state_dir() -> Path:
    from platformdirs import user_state_path  # noqa: PLC0415  (see above)

    return user_state_path("rlmd")
