"""`rlmctl stop`: the daemon is stopped; what it has recorded stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_process
from rlmctl.daemon import autostart
from rlmctl.daemon.connection import places
from rlmctl.daemon.process import end
from rlmctl.daemon.services import serving

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_stop(parser: ArgumentParser) -> None:
    """Declare the arguments of `stop`."""
    add_json(parser, "print what was done as JSON")
    parser.epilog = "Agents go on as if there were no rlmd. Without a daemon there is nothing to do: exit code 0."


def stop(args: Namespace) -> int:
    """Stop the daemon and wait until it is gone."""
    paths = places()
    pid = end(paths)
    if serving(paths) is None:
        autostart.remember(paths, "stop")
    return print_process(args, "not running" if pid is None else "stopped", pid)
