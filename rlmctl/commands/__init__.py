"""The commands, one file a group, and what they share: asking the daemon, printing, failing.

A command `x` is a pair of functions: `add_x(parser)` declares its arguments, `x(args)` does it and returns
the exit code. Results go to stdout, messages for people to stderr. What is slow is imported where it is used.
"""

from __future__ import annotations

import json
import sys

from rlmd.client.connection import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import _ActionsContainer
    from typing import Any

    from rlmd.paths import Paths

FINE, FAILED, WRONG, UNREACHABLE = 0, 1, 2, 3
"""Exit codes: fine; an error or a failed check; wrong usage or configuration; no daemon can be reached."""


class CommandError(Exception):
    """The command cannot be done. `mend` is what the person can type to change that."""

    def __init__(self, message: str, mend: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.mend = mend
        self.code = code


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


def add_json(parser: _ActionsContainer, what: str = "print the daemon's reply as JSON") -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def check_provider(daemon: Client, name: str) -> None:
    """Raise `CommandError`, with the nearest right name, where the configuration has no provider of this name."""
    from rlmd.core.text import known

    names = [provider["id"] for provider in daemon.request("status")["providers"]]
    if name not in names:
        raise CommandError(f"there is no provider {name!r}{known(name, names)}", "rlmctl status")


def seconds(duration: str, example: str) -> float:
    """Read a duration that a person typed. Raises `CommandError`, with a whole command as the example."""
    from rlmd.config.durations import parse

    try:
        return parse(duration)
    except ValueError as error:
        raise CommandError(f'"{duration}" {error}.', example, WRONG) from None


def print_json(value: Any) -> None:
    """Print one JSON document to stdout, laid out for people."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(message: str) -> None:
    """Tell the person something that is no result."""
    sys.stdout.flush()  # what was said before comes before
    print(message, file=sys.stderr)
