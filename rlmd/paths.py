"""Where things are: the one answer for the daemon, the client and the installers.

Owns the rules of names and places, but for the socket's, which are in address.py; touches no file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlmd.address import socket_address, state_directory

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    that it can be shown: see `rlmd.address.check_socket`.
    """
    state_dir = Path(state_directory(environ))
    return Paths(
        config=_given(environ, "RLMD_CONFIG") or _platform_config(),
        state_dir=state_dir,
        database=state_dir / "state.db",
        socket=Path(socket_address(environ)),
        log=state_dir / "rlmd.log",
    )


def _given(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name)
    return Path(value).absolute() if value else None


def _platform_config() -> Path:
    from platformdirs import user_config_path  # noqa: PLC0415  (15 ms that a fully told client need not pay)

    return user_config_path("rlmd") / "config.toml"
