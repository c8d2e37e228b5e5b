"""The command that proposes limits from what has been refused and what providers state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rlmctl.commands import add_json, check_provider, print_json, seconds
from rlmctl.daemon.connection import connect
from rlmctl.errors import FINE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_limits(parser: ArgumentParser) -> None:
    """Declare the arguments of `limits`."""
    actions = parser.add_subparsers(dest="action", metavar="suggest", required=True)
    suggest = actions.add_parser("suggest", help="propose limits, each with what it rests on, as TOML to paste")
    suggest.add_argument("--since", metavar="DURATION", default="90d", help="look back so far; default: 90d")
    suggest.add_argument("--provider", metavar="PROVIDER", help="this one only")
    add_json(suggest, "print the suggestions as JSON")
    parser.epilog = (
        "A refusal (429 and the like) shows where a limit is: what the provider says of it, or else how many\n"
        "requests had been counted in the window before. Nothing is changed: paste what you believe."
    )


def limits(args: Namespace) -> int:
    """Propose limits for the configuration."""
    from rlmctl.insight.suggestions import as_toml, look, shown

    since = datetime.now(UTC) - timedelta(seconds=seconds(args.since, "rlmctl limits suggest --since 30d"))
    found = [s for s in look(since) if args.provider in {None, s.provider}]
    if args.provider and not found:
        with connect() as daemon:
            check_provider(daemon, args.provider)
    fresh = [s for s in found if not s.holds]
    if args.json:
        print_json({"since": _stamp(since), "suggestions": [s._asdict() for s in found], "toml": as_toml(fresh)})
        return FINE
    if not found:
        print(f"Nothing to go by: no provider has refused a request or stated a limit in the last {args.since}.")
        return FINE
    for suggestion in found:
        print("\n".join(shown(suggestion)))
    if text := as_toml(fresh):
        print(f"\nTo paste into the configuration (rlmctl config path), then: rlmctl reload\n\n{text}", end="")
    return FINE


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
