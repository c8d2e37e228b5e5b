"""Commands that show what the daemon knows and change nothing: why, state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlmctl.commands import FINE, add_json, ask, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_why(parser: ArgumentParser) -> None:
    """Declare the arguments of `why`."""
    parser.add_argument("model", metavar="MODEL", help="a model by the name that the configuration gives it")
    parser.add_argument("--session", metavar="ID", help="as this session of the agent would be answered")
    add_json(parser)


def why(args: Namespace) -> int:
    """Explain where the requests of a model go: every candidate in order, with its reason."""
    reply = ask("explain", model=args.model, session=args.session)
    if args.json:
        print_json(reply)
        return FINE
    from rlmctl.show.text import arrow

    print(reply["message"])
    for place, candidate in enumerate(reply["candidates"], 1):
        mark = arrow(sys.stdout.encoding) if candidate["taken"] else " "
        print(f"{mark} {place}. {candidate['provider']} ({candidate['model']}): {candidate['why']}")
    return FINE


def add_state(parser: ArgumentParser) -> None:
    """Declare the arguments of `state`."""
    add_json(parser, "the only form there is, and the default")
    parser.epilog = "For scripts written for that plugin. All there is to know: rlmctl status --json"


def state(args: Namespace) -> int:
    """Print the state in the shape of the plugin that this project replaces."""
    del args
    from rlmctl.agents.opencode.predecessor_state import written

    print_json(written(ask("status")))
    return FINE
