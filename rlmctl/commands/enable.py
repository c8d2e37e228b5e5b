"""`rlmctl enable`: a provider may serve again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_enable(parser: ArgumentParser) -> None:
    """Declare the arguments of `enable`."""
    parser.add_argument("provider", metavar="PROVIDER")
    add_json(parser)


def enable(args: Namespace) -> int:
    """Let a provider serve again."""
    return print_done(args, ask("enable", provider=args.provider))
