"""`rlmctl restart`: the daemon is stopped and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_process
from rlmctl.daemon.connection import places
from rlmctl.daemon.process import replace

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_restart(parser: ArgumentParser) -> None:
    """Declare the arguments of `restart`."""
    add_json(parser, "print what was done as JSON")
    parser.epilog = "Nothing that was recorded is lost; agents connect again by themselves."


def restart(args: Namespace) -> int:
    """Stop the daemon if one runs, wait until it is gone, start it."""
    return print_process(args, "restarted", replace(places()))
