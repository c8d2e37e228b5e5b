"""The command that shows what every provider has left: as a table, a line, live.

`status --plain` and `status --format` feed prompts and status lines, many times a minute: `quick` passes by all that
is slow, and so does the import of this file.
"""

from __future__ import annotations

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import ask, connect
from rlmctl.errors import FINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence
    from typing import Any


_DEFINED = """\
It ends with what is coming and with what it did for you, where that is known:
  at this pace  what was used of a window since it opened, over that time; told once a
                twentieth of the limit is used and a twentieth of the window is over
  kept going    a session was led away from a provider that could not serve it
  not waited    from there until that provider was to serve again, or did: each moment
                once, nothing of the future, no hour without a request"""


def quick(arguments: Sequence[str]) -> int | None:
    """Do at once what is asked for most, and what prompts ask for; None where it is something else."""
    match arguments:
        case []:
            print_table()
        case ["--plain"]:
            print_text(ask("status"))
        case ["--format", form] if not form.startswith("-"):
            print_line(form, ask("status"))
        case _:
            return None
    return FINE


def add_status(parser: ArgumentParser) -> None:
    """Declare the arguments of `status`."""
    from rlmctl.show.status_line import described

    form = parser.add_mutually_exclusive_group()
    form.add_argument("--plain", action="store_true", help="what /rate_limit_status shows in the agent")
    form.add_argument("--format", metavar="TEXT", help="a line of your own, with {fields}; see below")
    add_json(form)
    parser.add_argument("-w", "--watch", action="store_true", help="go on, whenever something changes; Ctrl-C ends it")
    parser.epilog = f"{_DEFINED}\n\n{described()}"


def status(args: Namespace) -> int:
    """Show every provider, its limits, and who serves now."""
    show = _form(args)
    if args.watch:
        from rlmctl.show.live import watch

        with connect() as daemon:
            return watch(daemon, show)
    if show is None:
        print_table()
    else:
        show(ask("status"))
    return FINE


def print_table() -> None:
    """Print the status as a table, with what it did for the person and what is coming."""
    from datetime import UTC, datetime

    from rlmctl.insight.forecast import saved
    from rlmctl.show.status_table import picture
    from rlmctl.show.terminal import console

    with connect() as daemon:
        reply, endings = daemon.request("status"), saved(daemon)
    screen = console()
    screen.print(picture(reply, endings, datetime.now(UTC), screen), soft_wrap=not screen.is_terminal)


def print_text(reply: dict[str, Any]) -> None:
    """Print the daemon's own text of a status, exactly."""
    print(reply["text"].rstrip("\n"))


def print_line(form: str, reply: dict[str, Any]) -> None:
    """Print a line of the person's own."""
    from rlmctl.show.status_line import filled

    print(filled(form, reply))


def _form(args: Namespace) -> Callable[[dict[str, Any]], None] | None:
    """Return how a status is printed; None: as a table."""
    if args.json:
        return print_json
    if args.plain:
        return print_text
    if args.format is not None:
        form: str = args.format
        return lambda reply: print_line(form, reply)
    return None
