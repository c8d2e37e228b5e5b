"""`rlmctl reset`: counts, cooldowns or both are forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_reset(parser: ArgumentParser) -> None:
    """Declare the arguments of `reset`."""
    parser.add_argument("provider", metavar="PROVIDER", nargs="?", help="this one only; default: all")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--counters", action="store_const", const="counters", dest="what", help="counts only")
    only.add_argument("--cooldowns", action="store_const", const="cooldowns", dest="what", help="no counts")
    parser.set_defaults(what="all")
    add_json(parser)


def reset(args: Namespace) -> int:
    """Forget counts, cooldowns or both."""
    return print_done(args, ask("reset", provider=args.provider, what=args.what))
