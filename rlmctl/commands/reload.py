"""`rlmctl reload`: the daemon reads the configuration again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_reload(parser: ArgumentParser) -> None:
    """Declare the arguments of `reload`."""
    add_json(parser)
    parser.epilog = "A configuration with an error changes nothing: the daemon keeps the one it has."


def reload(args: Namespace) -> int:
    """Have the configuration read again."""
    return print_done(args, ask("reload"))
