"""The commands, one file each, and what they share: reading arguments, printing.

A command `x` is a pair of functions: `add_x(parser)` declares its arguments, `x(args)` does it and returns
the exit code. Results go to stdout, messages for people to stderr. What is slow is imported where it is used.
"""

from __future__ import annotations

import json
import sys

from rlmctl.errors import FINE, WRONG, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace, _ActionsContainer
    from typing import Any

    from rlmd.client.connection import Client


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


def print_done(args: Namespace, reply: dict[str, Any]) -> int:
    """Print what the daemon says of an order that was carried out, and return the exit code."""
    if args.json:
        print_json(reply)
    else:
        print(reply["message"])
    return FINE


def print_process(args: Namespace, state: str, pid: int | None) -> int:
    """Print how the daemon's process is now, and return the exit code."""
    if args.json:
        print_json({"state": state, "pid": pid})
    else:
        print(f"The daemon is {state}." if pid is None else f"The daemon is {state} (process {pid}).")
    return FINE
