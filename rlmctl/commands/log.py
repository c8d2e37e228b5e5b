"""The command that shows what happened: log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json, say
from rlmctl.daemon.connection import connect
from rlmctl.errors import FINE, WRONG, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_log(parser: ArgumentParser) -> None:
    """Declare the arguments of `log`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens from now on")
    parser.add_argument("--since", metavar="DURATION", help="only the last 30m, 2h, 7d")
    add_json(parser, "print the daemon's reply as JSON; with --follow one event a line")


def log(args: Namespace) -> int:
    """Show events, newest last."""
    since = _moment(args.since)
    with connect() as daemon:
        if args.follow:
            # First, so that nothing that happens while the past is read can be missed.
            daemon.request("subscribe")
        past = daemon.request("log", since=since)
        if args.json and not args.follow:
            print_json(past)
            return FINE
        for event in past["events"]:
            _tell(event, as_json=args.json)
        if not (past["events"] or args.json):
            say(f"nothing has happened{f' in the last {args.since}' if args.since else ' yet'}")
        if args.follow:
            for event in daemon.events():
                if event not in past["events"]:
                    _tell(event, as_json=args.json)
    return FINE


def _moment(since: str | None) -> str | None:
    if since is None:
        return None
    from rlmd.config.durations import parse

    try:
        start = datetime.now(UTC) - timedelta(seconds=parse(since))
    except (ValueError, OverflowError) as error:
        raise CommandError(f'"{since}" {error}.', "rlmctl log --since 2h", WRONG) from None
    return start.isoformat()


def _tell(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(event, ensure_ascii=False), flush=True)
    else:
        at = datetime.fromisoformat(event["at"]).astimezone()
        print(f"{at:%Y-%m-%d %H:%M:%S}  {event['event']:<12}{event['message']}", flush=True)
