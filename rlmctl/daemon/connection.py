"""The way to the daemon of this person: where everything is, a connection, one question."""

from __future__ import annotations

from rlmctl.errors import WRONG, CommandError
from rlmd.client.connection import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rlmd.paths import Paths


def places() -> Paths:
    """Return where everything is."""
    from rlmd.paths import resolve

    return resolve()


def connect(paths: Paths | None = None, *, deadline: float | None = None) -> Client:
    """Connect to the daemon. Raises `CommandError` where no socket can have the path."""
    from rlmd.address import PathTooLongError, check_socket, socket_address

    path = paths.socket if paths else socket_address()
    try:
        check_socket(path)
    except PathTooLongError as error:
        raise CommandError(str(error), code=WRONG) from None
    return Client(path) if deadline is None else Client(path, deadline)


def ask(op: str, **fields: Any) -> dict[str, Any]:
    """Ask the daemon one thing."""
    with connect() as daemon:
        return daemon.request(op, **fields)
