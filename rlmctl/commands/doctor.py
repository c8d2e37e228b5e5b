"""The command that checks everything a person would have to: one line each, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import connect, places
from rlmctl.doctor import Check
from rlmctl.errors import FAILED, FINE, CommandError
from rlmd.client.connection import DaemonRefusedError, DaemonUnreachableError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from rlmd.paths import Paths


def add_doctor(parser: ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    add_json(parser, "print the checks as JSON")
    parser.epilog = (
        "OpenCode is looked at as if it were started in this directory, with the variables of this shell.\n"
        "The exit code is 1 if anything is wrong (\u2717); a warning (!) is not."
    )


def doctor(args: Namespace) -> int:
    """Check everything."""
    checks = list(_checks(places()))
    fine = all(check.state != "wrong" for check in checks)
    if args.json:
        print_json({"ok": fine, "checks": [check._asdict() for check in checks]})
    else:
        from rlmctl.show.terminal import show_checks

        show_checks(checks)
    return FINE if fine else FAILED


def _checks(paths: Paths) -> Iterator[Check]:
    from rlmctl.doctor.agent import agent
    from rlmctl.doctor.clock import clock, zone
    from rlmctl.doctor.database import database
    from rlmctl.doctor.limits import limits
    from rlmctl.doctor.places import configuration, directory, disk, files, socket
    from rlmctl.doctor.running import daemon
    from rlmctl.doctor.service import service

    yield from configuration(paths)
    yield from directory(paths)
    yield from files(paths)
    yield from disk(paths)
    yield from socket(paths)
    yield from service(paths)
    told: dict[str, Any] | None = None
    try:
        with connect(paths) as client:
            told = client.request("status")["daemon"]
        yield from daemon(paths, told)
        yield from limits()
    except (DaemonUnreachableError, DaemonRefusedError, CommandError) as error:
        mend = getattr(error, "mend", "rlmctl restart")
        yield Check("daemon", "wrong", str(error), "see above" if mend == "rlmctl doctor" else mend)
    yield from database(paths, durable=None if told is None else told["durable"])
    yield from agent(paths)
    yield from clock(paths)
    yield from zone()
