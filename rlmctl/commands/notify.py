"""The command that tries the notification targets: notify test."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import connect
from rlmctl.errors import FAILED, FINE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

PATIENCE = 60.0
"""Seconds that the slowest target may take: the daemon itself gives up on it then."""
GLANCE = 0.1


def add_notify(parser: ArgumentParser) -> None:
    """Declare the arguments of `notify`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = actions.add_parser("test", help="send a test message to every target and say how that went")
    add_json(test, "print the targets as JSON")
    parser.epilog = "Targets stand under [notify] in the configuration. A test goes out in quiet hours, too."


def notify(args: Namespace) -> int:
    """Send a test message to every notification target, and wait until each has answered or failed."""
    with connect() as daemon:
        daemon.request("notify_test")
        until = time.monotonic() + PATIENCE
        while True:
            targets: list[dict[str, Any]] = daemon.request("status")["daemon"]["notify"]
            if all(target["ok"] is not None for target in targets) or time.monotonic() > until:
                break
            time.sleep(GLANCE)
    fine = all(target["ok"] for target in targets)
    if args.json:
        print_json({"ok": fine, "targets": targets})
    else:
        for target in targets:
            mark, said = ("✓", "took the message") if target["ok"] else ("✗", target["error"] or "has not answered yet")
            print(f"{mark} {target['target']:<17}{said}")
    return FINE if fine else FAILED
