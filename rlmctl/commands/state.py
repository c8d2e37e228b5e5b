"""`rlmctl state`: the state in the form of the rate-limit-manager plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import ask
from rlmctl.errors import FINE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


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
