"""The command that shows usage over time: history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, check_provider, print_json, say
from rlmctl.daemon.connection import connect
from rlmctl.errors import FAILED, FINE, WRONG, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_history(parser: ArgumentParser) -> None:
    """Declare the arguments of `history`."""
    parser.add_argument("--since", metavar="DURATION", default="7d", help="the last 12h, 7d, 4w; default: 7d")
    parser.add_argument("--by", choices=("hour", "day"), default="day", help="what is told apart; default: day")
    parser.add_argument("--provider", help="this one only")
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--html", metavar="FILE", help="write a page with charts; it needs no network and no other file")


def history(args: Namespace) -> int:
    """Show what each provider and model has been used for."""
    from rlmctl.insight.rests import MOST_EVENTS
    from rlmd.config.durations import parse

    now = datetime.now(UTC)
    try:
        since = now - timedelta(seconds=parse(args.since))
    except (ValueError, OverflowError) as error:
        raise CommandError(f'"{args.since}" {error}.', "rlmctl history --since 7d", WRONG) from None
    with connect() as daemon:
        reply = daemon.request("history", since=since.isoformat(), bucket=args.by, provider=args.provider)
        if args.provider and not reply["rows"]:  # one that has left the configuration has a history, too
            check_provider(daemon, args.provider)
        if args.json:
            print_json(reply)
            return FINE
        events = daemon.request("log", since=since.isoformat(), limit=MOST_EVENTS)["events"]
    if args.html:
        _write_page(Path(args.html), reply, events, since, now)
    elif not reply["rows"]:
        print(f"nothing in the last {args.since}")
    else:
        _draw(reply, events, since, now)
    return FINE


def _draw(reply: dict[str, Any], events: list[dict[str, Any]], since: datetime, now: datetime) -> None:
    from rlmctl.insight.forecast import gained
    from rlmctl.insight.rests import rests
    from rlmctl.show.history_chart import picture
    from rlmctl.show.terminal import console

    screen = console()
    screen.print(picture(reply, rests(events, now), since, now, screen))
    if sentence := gained(reply, "in this time"):
        screen.print(f"\n{sentence}")


def _write_page(
    file: Path, reply: dict[str, Any], events: list[dict[str, Any]], since: datetime, now: datetime
) -> None:
    from rlmctl.show.html import page

    try:
        file.write_text(page(reply, events, since, now), encoding="utf-8")
    except OSError as error:
        mend = "rlmctl history --html a file in a directory of yours"
        raise CommandError(f"{file} cannot be written: {error.strerror}.", mend, FAILED) from None
    say(f"wrote {file}: open it in a browser")
