"""The command that shows a failover without an agent, a key or anything of the person's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import FAILED, FINE, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_demo(parser: ArgumentParser) -> None:
    """Declare the arguments of `demo`."""
    parser.add_argument("--opencode", action="store_true", help="with the real OpenCode, in a home of its own")
    parser.epilog = (
        "It starts a daemon of its own in a temporary directory, and providers on the loopback interface. Each\n"
        "step is checked as it is told: the exit code is 0 only if all of it really happened."
    )


def demo(args: Namespace) -> int:
    """Tell the story, and check that it is true."""
    from rlmctl.demo.opencode_home import find_opencode
    from rlmctl.demo.story import tell
    from rlmctl.render import console

    program = find_opencode() if args.opencode else None
    if args.opencode and program is None:
        raise CommandError("OpenCode is not installed.", "npm install -g opencode-ai")
    return FINE if tell(program, console()) else FAILED
