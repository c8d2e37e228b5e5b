"""The command that shows usage over time: history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rlmctl.commands import FINE, WRONG, CommandError, add_json, connect, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

MOST = 10_000
"""Events that the daemon tells at once."""


def add_history(parser: ArgumentParser) -> None:
    """Declare the arguments of `history`."""
    parser.add_argument("--since", metavar="DURATION", default="7d", help="the last 12h, 7d, 4w; default: 7d")
    parser.add_argument("--by", choices=("hour", "day"), default="day", help="what is told apart; default: day")
    parser.add_argument("--provider", help="this one only")
    add_json(parser)


def history(args: Namespace) -> int:
    """Show what each provider and model has been used for."""
    from rlmd.durations import parse

    now = datetime.now(UTC)
    try:
        since = now - timedelta(seconds=parse(args.since))
    except (ValueError, OverflowError) as error:
        raise CommandError(f'"{args.since}" {error}.', "rlmctl history --since 7d", WRONG) from None
    with connect() as daemon:
        reply = daemon.request("history", since=since.isoformat(), bucket=args.by, provider=args.provider)
        if args.json:
            print_json(reply)
            return FINE
        events = daemon.request("log", since=since.isoformat(), limit=MOST)["events"]
    if not reply["rows"]:
        print(f"nothing in the last {args.since}")
    else:
        _draw(reply, events, since, now)
    return FINE


def _draw(reply: dict[str, Any], events: list[dict[str, Any]], since: datetime, now: datetime) -> None:
    from rlmctl.forecast import gained
    from rlmctl.history_picture import picture
    from rlmctl.render import console
    from rlmctl.rests import rests

    screen = console()
    screen.print(picture(reply, rests(events, now), since, now, screen))
    if sentence := gained(reply, "in this time"):
        screen.print(f"\n{sentence}")
