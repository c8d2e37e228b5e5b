"""The first run in one command: a configuration, the shim, the service, the daemon, the proof that it answers.

Running it again does only what is missing, and replaces a daemon, shim or unit of another version. It writes the
configuration once and never changes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl import discovery
from rlmctl.commands import FINE, CommandError, add_json, ask, places, print_json, say
from rlmctl.commands.agents import install_shim
from rlmctl.commands.configuration import read
from rlmctl.commands.daemon import launch, replace, running
from rlmctl.commands.services import install_service, service_manager
from rlmctl.commands.status import print_text
from rlmctl.first_config import compose, write
from rlmd import __version__

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from rlmd.paths import Paths


def add_setup(parser: ArgumentParser) -> None:
    """Declare the arguments of `setup`."""
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="show all that would be done, and do nothing")
    add_json(parser, "print what was done and the status as JSON")
    parser.epilog = "It reads the names of providers and models in opencode.json(c), never a key."


def setup(args: Namespace) -> int:
    """Do whatever is missing until a daemon answers and the agent knows of it."""
    paths = places()
    written = _configure(paths, args)
    shim = _install_shim(paths, args)
    before = running(paths)
    service = _install_service(paths, args)
    if args.dry_run:
        say(f"would start: the daemon, unless one runs (socket {paths.socket})")
        return FINE
    pid, _ = launch(paths)
    status = ask("status")
    if status["daemon"]["version"] != __version__:
        pid = replace(paths)
        status = ask("status")
    elif written and before is not None and pid == before["pid"]:
        ask("reload")
        status = ask("status")
    started = before is None or pid != before["pid"]
    say(f"✓ daemon         {'started' if started else 'runs already'}, process {pid}")
    if args.json:
        done = {
            "config": str(paths.config),
            "config_written": written,
            "shim": shim,
            "service": service,
            "daemon_started": started,
        }
        print_json({**done, "status": status})
    else:
        print()
        print_text(status)
    _say_what_next(paths, [provider["id"] for provider in status["providers"]], with_agent=bool(shim))
    return FINE


def _configure(paths: Paths, args: Namespace) -> bool:
    """Write a configuration if there is none. Return whether one was written."""
    if paths.config.exists():
        providers = len(read().policy.providers)
        say(f"✓ configuration  {paths.config} is there ({providers} providers) and stays as it is")
        return False
    found = _look()
    for problem in found.problems:
        say(f"! {problem}")
    text = compose(found)
    if args.dry_run:
        say(f"would write: {paths.config}\n")
        print(text)
        return False
    if not args.yes and _is_asking():
        say(f"{text}\n")
        if not _agreed(f"Write this to {paths.config}?"):
            raise CommandError("Nothing was written.", "rlmctl setup --dry-run")
    write(paths.config, text)
    said = ", ".join(found.providers) or "no provider found: fill it in"
    say(f"✓ configuration  {paths.config} written ({said})")
    return True


def _install_shim(paths: Paths, args: Namespace) -> list[str]:
    """Install the shim where there is an agent. Return what was done, nothing where there is none."""
    if not discovery.opencode_is_here(os.environ):
        say("- agent          OpenCode is not here; once it is: rlmctl install opencode")
        return []
    if not args.yes and not args.dry_run and _is_asking() and not _agreed("Install the shim into OpenCode?"):
        say("- agent          the shim was not installed; later: rlmctl install opencode")
        return []
    from rlmctl.agents import opencode

    done = install_shim(paths, dry_run=args.dry_run)
    for line in done:
        say(line if args.dry_run else f"✓ agent          {line}")
    for line in opencode.offers(Path.cwd()):
        say(f"! agent          {line}")
    return done


def _install_service(paths: Paths, args: Namespace) -> list[str]:
    """Hand the daemon over where a service manager runs. Return what was done, nothing where there is none."""
    manager = service_manager(paths)
    if manager is None:
        return []
    if not args.yes and not args.dry_run and _is_asking() and not _agreed(f"Have {manager} keep the daemon?"):
        say(f"- service        the daemon runs without {manager}; later: rlmctl install {manager}")
        return []
    try:
        done = install_service(manager, paths, dry_run=args.dry_run)
    except CommandError as error:
        say(f"! service        {error} The daemon runs without {manager}; later: rlmctl install {manager}")
        return []
    for line in done:
        say(line if args.dry_run else f"✓ service        {line}")
    return done


def _say_what_next(paths: Paths, providers: list[str], *, with_agent: bool) -> None:
    say("")
    known = [] if providers else [name for name, models in _look().providers.items() if models]
    if known:
        say(f"Next: OpenCode has {', '.join(known)} now. To take them over: rm {paths.config} && rlmctl setup")
    elif not providers:
        say(f"Next: name your providers in {paths.config} (it holds an example), then: rlmctl reload")
    elif len(providers) == 1:
        say(f"Next: add a second provider to {paths.config}, so that there is one to switch to: rlmctl reload")
    else:
        say(f"Next: write the limits of your plans into {paths.config}, then: rlmctl reload")
    if with_agent:
        say("Start OpenCode as always, and anew if it runs. In it, /rate_limit_status shows this status.")
    say("Whenever something seems wrong: rlmctl doctor")


def _look() -> discovery.Found:
    return discovery.look(Path.cwd(), os.environ)


def _is_asking() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(question: str) -> bool:
    sys.stderr.write(f"{question} [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}
