"""The first run in one command: a configuration, the shim, the service, the daemon, the proof that it answers.

Running it again does only what is missing, and replaces a daemon, shim or unit of another version. What a person has
written, in the configuration or in a shim, stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.agents.opencode import configuration
from rlmctl.commands import add_json, print_json, say
from rlmctl.commands.agents import install_shim
from rlmctl.commands.configuration import read
from rlmctl.commands.status import print_text
from rlmctl.daemon.connection import ask, places
from rlmctl.daemon.process import launch, replace, running
from rlmctl.daemon.services import serving
from rlmctl.daemon.services.installation import install_service, service_manager
from rlmctl.errors import FAILED, FINE, CommandError
from rlmctl.insight import stand_ins
from rlmctl.setup import questions
from rlmctl.setup.configure import append, compose, propose, served, tables, write
from rlmd import __version__
from rlmd.config.policy import parse
from rlmd.core.text import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from rlmd.paths import Paths

MEND = "\n                 mend: "


def add_setup(parser: ArgumentParser) -> None:
    """Declare the arguments of `setup`."""
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing, take what is proposed")
    parser.add_argument("--dry-run", action="store_true", help="show all that would be done, and do nothing")
    add_json(parser, "print what was done and the status as JSON")
    parser.epilog = (
        "It reads the names of providers, models and variables in opencode.json(c), in auth.json and in OpenCode's\n"
        "list of models; never a key. Published limits are written as comments, unless you say that they are yours."
    )


def setup(args: Namespace) -> int:
    """Do whatever is missing until a daemon answers and the agent knows of it."""
    paths = places()
    found = configuration.look(Path.cwd(), os.environ)
    for problem in (*found.problems, *_mistakes(found)):
        say(f"! OpenCode       {problem}")
    text = _configuration(paths, found, args)
    written = text is not None and not args.dry_run
    shim, left = _install_shim(paths, args)
    before = running(paths)
    service = _install_service(paths, args)
    done: dict[str, Any] = {"config": str(paths.config), "config_written": written, "shim": shim, "service": service}
    done["left"] = [left] if left else []
    if args.dry_run:
        would = "run already" if before else "start"
        say(f"would {would}: the daemon (socket {paths.socket})")
        done["models"] = _say_who_stands_in(paths, text)
        if args.json:
            print_json({**done, "dry_run": True, "text": text, "daemon_started": False})
        elif text is not None:
            print(text)
        return FAILED if left else FINE
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
    _prove(status)
    done["models"] = _say_who_stands_in(paths, None)
    if args.json:
        print_json({**done, "dry_run": False, "daemon_started": started, "status": status})
    else:
        print()
        print_text(status)
    _say_what_next(paths, status, with_agent=bool(shim))
    if left:
        say(f"One thing is left to do: {left}")
    return FAILED if left else FINE


def _mistakes(found: configuration.Found) -> list[str]:
    """Say what is written in OpenCode's configuration as shells write it."""
    return [
        f"{file}: {key} has ${{{name}}}, which OpenCode sends as it stands; write {{env:{name}}}"
        for file, key, name in found.literals
    ]


def _configuration(paths: Paths, found: configuration.Found, args: Namespace) -> str | None:
    """Write a configuration if there is none, or what is missing in one. Return the text, None where none is needed."""
    if paths.config.exists() and paths.config.read_bytes() != compose(configuration.NOTHING).encode():
        return _complete(paths, found, args)
    chosen = propose(found)
    asking = not (args.yes or args.dry_run) and questions.is_possible()
    if asking and served(found):
        say(f"OpenCode has {_described(found)}.")
        chosen = questions.choose(found, chosen)
    text = compose(found, chosen)
    if args.dry_run:
        say(f"would write: {paths.config}")
        return text
    if asking:
        say(f"\n{text}")
        if not questions.agreed(f"Write this to {paths.config}?"):
            raise CommandError("Nothing was written.", "rlmctl setup --dry-run")
    if paths.config.exists():  # the example that nobody has touched
        paths.config.unlink()
    write(paths.config, text)
    said = ", ".join(found.providers) or "no provider found: fill it in"
    say(f"✓ configuration  {paths.config} written ({said})")
    return text


def _complete(paths: Paths, found: configuration.Found, args: Namespace) -> str | None:
    """Leave a configuration as it is, and offer what OpenCode has beside it."""
    there = [provider.id for provider in read().policy.providers]
    say(f"✓ configuration  {paths.config} is there ({counted(len(there), 'provider')}) and stays as it is")
    missing = [provider for provider in served(found) if provider not in there]
    if not missing:
        return None
    names = ", ".join(missing)
    chosen = propose(found)
    text = tables(found, chosen._replace(order=(*there, *missing)), without=there)
    say(f"! configuration  OpenCode has {names} too. To take over, at its end:\n{text}")
    if args.yes or args.dry_run or not questions.is_possible():
        return None
    if not questions.agreed(f"Add this to the end of {paths.config}?", usual=False):
        return None
    append(paths.config, text)
    read()
    say(f"✓ configuration  {names} added at the end of {paths.config}")
    return text


def _described(found: configuration.Found) -> str:
    names = (f"{name} ({', '.join(models)})" for name, models in served(found).items())
    return "; ".join(names)


def _install_shim(paths: Paths, args: Namespace) -> tuple[list[str], str]:
    """Install the shim where there is an agent. Return what was done, and what could not be."""
    if not configuration.opencode_is_here(os.environ):
        say("- agent          OpenCode is not here; once it is: rlmctl install opencode")
        return [], ""
    from rlmctl.agents import opencode

    shims = opencode.inspect()
    if any(shim.state == "edited" for shim in shims):
        changed = ", ".join(str(path) for shim in shims for path in shim.changed)
        say(f"! agent          {changed} was edited and stays as it is; to replace it: rlmctl install opencode")
        return [f"{changed} was edited and stays as it is."], ""
    asking = not (args.yes or args.dry_run or shims) and questions.is_possible()
    if asking and not questions.agreed("Install the shim into OpenCode?"):
        say("- agent          the shim was not installed; later: rlmctl install opencode")
        return [], ""
    try:
        done = install_shim(paths, dry_run=args.dry_run)
    except CommandError as error:  # the daemon serves other agents, and this one once that is mended
        say(f"! agent          {error}{MEND}{error.mend}")
        return [], str(error)
    for line in done:
        say(line if args.dry_run else f"✓ agent          {line}")
    for line in opencode.offers(Path.cwd()):
        say(f"! agent          {line}")
    return done, ""


def _install_service(paths: Paths, args: Namespace) -> list[str]:
    """Hand the daemon over where a service manager runs. Return what was done, nothing where there is none."""
    manager = service_manager(paths)
    if manager is None:
        return []
    asking = not (args.yes or args.dry_run) and serving(paths) is None and questions.is_possible()
    if asking and not questions.agreed(f"Have {manager} keep the daemon?"):
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


def _prove(status: dict[str, Any]) -> None:
    """Have the daemon decide, which changes nothing, and say what it said."""
    for model in status["model_mapping"]:
        say(f"✓ it decides     {model}: {ask('explain', model=model)['message']}")
        return


def _say_who_stands_in(paths: Paths, text: str | None) -> list[dict[str, Any]]:
    """Say of each model who could stand in, by a text that is not written yet, else by the file. Returns it as JSON."""
    config = read() if text is None else parse(text, os.environ, source=str(paths.config))
    for line in stand_ins.lines(config.policy):
        say(f"{'✓' if line.fine else '!'} stand-ins      {line.text}{f'{MEND}{line.mend}' if line.mend else ''}")
    return stand_ins.as_json(config.policy)


def _say_what_next(paths: Paths, status: dict[str, Any], *, with_agent: bool) -> None:
    providers = status["providers"]
    limited = any(limit["source"] == "config" for provider in providers for limit in provider["limits"])
    say("")
    if not providers:
        say(f"Next: name your providers in {paths.config} (it holds an example), then: rlmctl reload")
    elif len(providers) == 1:
        say(f"Next: add a second provider to {paths.config}, so that there is one to switch to: rlmctl reload")
    elif not limited:
        say(f"Next: write the limits of your plans into {paths.config}, then: rlmctl reload")
    if with_agent:
        say("Start OpenCode as always, and anew if it runs. In it, /rate_limit_status shows this status.")
    say("Whenever something seems wrong: rlmctl doctor")
