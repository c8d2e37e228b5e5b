"""`rlmctl disable`: a provider is kept out until it is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_disable(parser: ArgumentParser) -> None:
    """Declare the arguments of `disable`."""
    parser.add_argument("provider", metavar="PROVIDER")
    add_json(parser)
    parser.epilog = "It stays out across restarts, until: rlmctl enable PROVIDER"


def disable(args: Namespace) -> int:
    """Keep a provider out."""
    return print_done(args, ask("disable", provider=args.provider))
