"""`rlmctl cooldown`: a provider rests for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_done, seconds
from rlmctl.daemon.connection import ask

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_cooldown(parser: ArgumentParser) -> None:
    """Declare the arguments of `cooldown`."""
    parser.add_argument("provider", metavar="PROVIDER")
    parser.add_argument("duration", metavar="DURATION", help="such as 90s, 30m, 1h30m or 2d")
    parser.add_argument("--model", help="this model of the provider only")
    parser.add_argument("--reason", help="a few words that status and log will show")
    add_json(parser)
    parser.epilog = "End it early: rlmctl reset PROVIDER --cooldowns"


def cooldown(args: Namespace) -> int:
    """Let a provider rest."""
    span = round(seconds(args.duration, f"rlmctl cooldown {args.provider} 1h") * 1000)
    order = {"provider": args.provider, "model": args.model, "for_ms": span, "reason": args.reason}
    return print_done(args, ask("cooldown", **order))
