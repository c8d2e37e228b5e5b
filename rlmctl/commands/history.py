"""The command that shows usage over time: history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rlmctl.commands import FINE, WRONG, CommandError, add_json, ask, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_history(parser: ArgumentParser) -> None:
    """Declare the arguments of `history`."""
    parser.add_argument("--since", metavar="DURATION", default="7d", help="the last 12h, 7d, 4w; default: 7d")
    parser.add_argument("--by", choices=("hour", "day"), default="day", help="a row for each; default: day")
    parser.add_argument("--provider", help="this one only")
    add_json(parser)


def history(args: Namespace) -> int:
    """Show what each provider and model has been used for."""
    from rlmd.durations import parse

    try:
        since = datetime.now(UTC) - timedelta(seconds=parse(args.since))
    except (ValueError, OverflowError) as error:
        raise CommandError(f'"{args.since}" {error}.', "rlmctl history --since 7d", WRONG) from None
    reply = ask("history", since=since.isoformat(), bucket=args.by, provider=args.provider)
    if args.json:
        print_json(reply)
    elif not reply["rows"]:
        print(f"nothing in the last {args.since}")
    else:
        from rlmctl.render import show_history

        show_history(reply)
    return FINE
