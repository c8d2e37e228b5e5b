"""Commands that put rlmd's shim into an agent, the daemon into a service manager, and take them out again."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl.commands import add_json, print_json
from rlmctl.daemon.connection import places
from rlmctl.errors import FINE, WRONG, CommandError
from rlmd.address import PathTooLongError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from rlmd.paths import Paths

SERVICES = ("systemd", "launchd")
WHAT = ("opencode", *SERVICES)


def add_install(parser: ArgumentParser) -> None:
    """Declare the arguments of `install`."""
    _add_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="systemd 254 and newer: the files closed, too")
    parser.epilog = "Running it again brings the shim or the service up to date."


def install(args: Namespace) -> int:
    """Install the shim of an agent, or the daemon as a service."""
    if args.what in SERVICES:
        from rlmctl.daemon.services.installation import install_service

        with _no_file_in_the_way("The service's files"):
            return _report(args, install_service(args.what, places(), strict=args.strict, dry_run=args.dry_run))
    from rlmctl.agents import opencode

    done = install_shim(places(), project=_project(args), dry_run=args.dry_run)
    return _report(args, done + opencode.offers(Path.cwd()))


def install_shim(paths: Paths, *, project: Path | None = None, dry_run: bool = False) -> list[str]:
    """Put the shim into OpenCode and say what was done. Raises `CommandError` where that cannot be done."""
    from rlmctl.agents import opencode

    with _no_file_in_the_way("The shim's file", other_ways="" if project else opencode.other_ways()):
        try:
            return opencode.install(paths, project=project, dry_run=dry_run)
        except opencode.NotServedError as error:
            raise CommandError(str(error), error.mend) from None


def add_uninstall(parser: ArgumentParser) -> None:
    """Declare the arguments of `uninstall`."""
    _add_arguments(parser)
    parser.epilog = "Only what `rlmctl install` wrote is removed; configuration and state stay."


def uninstall(args: Namespace) -> int:
    """Remove the shim of an agent, or the service."""
    if args.what in SERVICES:
        from rlmctl.daemon.services.installation import uninstall_service

        with _no_file_in_the_way("The service's files"):
            return _report(args, uninstall_service(args.what, places(), dry_run=args.dry_run))
    from rlmctl.agents import opencode

    with _no_file_in_the_way("The shim's file"):
        done = opencode.uninstall(places(), project=_project(args), dry_run=args.dry_run)
    return _report(args, done)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--project", action="store_true", help="in this directory's .opencode/, not for all of yours")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_json(parser, "print what was done as a JSON list")


@contextmanager
def _no_file_in_the_way(what: str, *, other_ways: str = "") -> Iterator[None]:
    """Turn what the system refuses into the message for the person."""
    try:
        yield
    except PathTooLongError as error:
        raise CommandError(str(error), code=WRONG) from None
    except OSError as error:
        message = f"{what} cannot be changed: {error.strerror}: {error.filename}."
        raise CommandError(message, f"make that place writable for you, then do this again{other_ways}") from None


def _project(args: Namespace) -> Path | None:
    return Path.cwd() if args.project else None


def _report(args: Namespace, lines: list[str]) -> int:
    if args.json:
        print_json(lines)
    else:
        print("\n".join(lines))
    return FINE
