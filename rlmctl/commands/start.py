"""`rlmctl start`: the daemon is started, unless it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_process
from rlmctl.daemon import autostart
from rlmctl.daemon.connection import places
from rlmctl.daemon.process import launch

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_start(parser: ArgumentParser) -> None:
    """Declare the arguments of `start`."""
    add_json(parser, "print what was done as JSON")
    parser.add_argument(
        "--if-wanted",
        action="store_true",
        help="only where `autostart` lets whoever needs it do that: agents call this",
    )
    parser.epilog = "A daemon that runs already is fine: the exit code is 0."


def start(args: Namespace) -> int:
    """Start the daemon unless one runs, and wait until it answers."""
    paths = places()
    if args.if_wanted and not autostart.is_wanted(paths):
        return print_process(args, "not wanted", None)
    pid, already = launch(paths)
    return print_process(args, "running already" if already else "started", pid)
