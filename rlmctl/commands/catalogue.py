"""Every command: the file it lives in, what it does in a line, and its parser."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from importlib import import_module
from typing import TYPE_CHECKING

from rlmctl.commands import WRONG, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {
    "First steps": {
        "demo": ("demo", "watch a limit being hit, in ten seconds: no key, no agent"),
        "setup": ("setup", "configure, install shim and service, start; safe to repeat"),
        "doctor": ("doctor", "check everything; each line names the command that mends it"),
    },
    "Look": {
        "status": ("look", "what every provider has left, and who serves now"),
        "why": ("look", "why the requests of a model go where they go"),
        "history": ("history", "what was used: requests, errors, tokens, cost by hour or day"),
        "log": ("events", "what happened: switches, limits, recoveries"),
        "state": ("look", "the state in the form of the rate-limit-manager plugin"),
    },
    "Act": {
        "use": ("act", "put one provider before all others, or go back to automatic"),
        "cooldown": ("act", "let a provider rest for a while"),
        "reset": ("act", "forget counts, cooldowns or both"),
        "enable": ("act", "let a provider serve again"),
        "disable": ("act", "keep a provider out until it is enabled"),
    },
    "Configuration": {
        "config": ("configuration", "check or show the configuration, or say where it is"),
        "reload": ("act", "have the daemon read the configuration again"),
        "simulate": ("simulate", "where a load would go under a configuration"),
        "notify": ("notify", "try the notification targets"),
        "paths": ("configuration", "where configuration, state, socket and log are"),
    },
    "Installation": {
        "start": ("daemon", "start the daemon"),
        "stop": ("daemon", "stop the daemon; what it has recorded stays"),
        "restart": ("daemon", "stop the daemon, wait until it is gone, start it"),
        "install": ("agents", "install an agent's shim, or the daemon as a service"),
        "uninstall": ("agents", "remove an agent's shim, or the service"),
        "completion": ("completion", "print the completion script of a shell"),
    },
}
"""Title of a group → command → its file in `rlmctl/commands/` and what it does."""

SUMMARIES = {name: summary for group in COMMANDS.values() for name, (_, summary) in group.items()}


def find(name: str) -> tuple[ArgumentParser, Callable[[Namespace], int]]:
    """Return the parser of a command and the function that does it. Raises `CommandError` if there is none."""
    if name not in SUMMARIES:
        from difflib import get_close_matches

        near = get_close_matches(name, SUMMARIES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CommandError(f"There is no command {name!r}.{hint}", "rlmctl --help", WRONG)
    file = next(group[name][0] for group in COMMANDS.values() if name in group)
    module = import_module(f"rlmctl.commands.{file}")
    summary = SUMMARIES[name]
    parser = ArgumentParser(
        prog=f"rlmctl {name}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    getattr(module, f"add_{name}")(parser)
    return parser, getattr(module, name)


def help_text() -> str:
    """Return what `rlmctl --help` prints."""
    lines = [
        "usage: rlmctl COMMAND [ARGUMENTS]",
        "",
        "Asks and steers rlmd, which leads coding agents around rate limits.",
    ]
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<12}{summary}" for name, (_, summary) in group.items()]
    lines += [
        "",
        "`rlmctl COMMAND --help` tells more; `--json` prints any result for a script.",
        "Exit codes: 0 fine, 1 an error or a failed check, 2 wrong usage or a wrong",
        "configuration, 3 the daemon cannot be reached.",
    ]
    return "\n".join(lines)
