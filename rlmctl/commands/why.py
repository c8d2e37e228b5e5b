"""`rlmctl why`: the next decision for a model, candidate by candidate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import ask
from rlmctl.errors import FINE

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
