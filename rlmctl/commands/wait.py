"""The command that waits until a model can be served: for scripts that would start too early."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json, say, seconds
from rlmctl.daemon.connection import connect
from rlmctl.errors import FAILED, FINE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_wait(parser: ArgumentParser) -> None:
    """Declare the arguments of `wait`."""
    parser.add_argument("model", metavar="MODEL", help="a model by the name that the configuration gives it")
    parser.add_argument("--timeout", metavar="DURATION", help="give up after 90s, 10m, 1h; default: never")
    add_json(parser, "print the result as JSON")
    parser.epilog = (
        "The exit code is 0 once a provider is available, 1 if none is by the timeout. It sleeps until the daemon\n"
        "tells of a change or the named time has come."
    )


def wait(args: Namespace) -> int:
    """Return as soon as the next request for a model would be sent somewhere."""
    left = None if args.timeout is None else seconds(args.timeout, "rlmctl wait MODEL --timeout 10m")
    begun = time.monotonic()
    with connect() as daemon:
        # What is told after the look that follows is heard: nothing that happens in between can be missed.
        daemon.request("subscribe", events=["changed"])
        told = False
        while (found := daemon.request("explain", model=args.model))["decision"] == "wait":
            passed = time.monotonic() - begun
            if left is not None and passed >= left:
                break
            if not (told or args.json):
                say(f"{found['message']}; waiting")
                told = True
            pauses = [] if left is None else [left - passed]
            if found["retry_at"] is not None:
                pauses.append(max(0.0, datetime.fromisoformat(found["retry_at"]).timestamp() - time.time()))
            daemon.event(min(pauses, default=None))
    return _report(args, found, time.monotonic() - begun)


def _report(args: Namespace, found: dict[str, Any], waited: float) -> int:
    taken = next((candidate for candidate in found["candidates"] if candidate["taken"]), None)
    if args.json:
        place = {"provider": taken["provider"] if taken else None, "retry_at": found["retry_at"]}
        result = {"model": args.model, "available": bool(taken), **place, "waited_ms": round(waited * 1000)}
        print_json({**result, "message": found["message"]})
    elif taken:
        print(found["message"])
    else:
        say(f"rlmctl: {found['message']}.\n  mend: rlmctl why {args.model}")
    return FINE if taken else FAILED
