"""`rlmctl use`: one provider is put before all others, or nobody is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_use(parser: ArgumentParser) -> None:
    """Declare the arguments of `use`."""
    parser.add_argument("provider", metavar="PROVIDER|auto", help="whom to try first; auto: by priority")
    parser.add_argument("--model", help="for this model only")
    add_json(parser)


def use(args: Namespace) -> int:
    """Put a provider before all others."""
    provider = None if args.provider == "auto" else args.provider
    return print_done(args, ask("pin", provider=provider, model=args.model))
