"""The command that shows a failover without an agent, a key or anything of the person's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_json
from rlmctl.errors import FAILED, FINE, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_demo(parser: ArgumentParser) -> None:
    """Declare the arguments of `demo`."""
    parser.add_argument("--opencode", action="store_true", help="with the real OpenCode, in a home of its own")
    add_json(parser, "print what was told, and whether it happened, as JSON once it is over")
    parser.epilog = (
        "It starts a daemon of its own in a temporary directory, and providers on the loopback interface. Each\n"
        "step is checked as it is told: the exit code is 0 only if all of it really happened."
    )


def demo(args: Namespace) -> int:
    """Tell the story, and check that it is true."""
    from rlmctl.demo.opencode_home import find_opencode
    from rlmctl.demo.story import tell
    from rlmctl.show.terminal import console

    program = find_opencode() if args.opencode else None
    if args.opencode and program is None:
        raise CommandError("OpenCode is not installed.", "npm install -g opencode-ai")
    screen = console()
    if args.json:
        with screen.capture() as told:
            happened = tell(program, screen)
        print_json({"happened": happened, "told": told.get().splitlines()})
    else:
        happened = tell(program, screen)
    return FINE if happened else FAILED
