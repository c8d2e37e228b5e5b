"""Every command: the file it lives in, what it does in a line, examples, and its parser."""

from __future__ import annotations

from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING

from rlmctl.commands.parser import CommandParser
from rlmctl.errors import WRONG, CommandError, did_you_mean

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

COMMANDS = {
    "First steps": {
        "demo": ("demo", "watch a limit being hit, in ten seconds: no key, no agent"),
        "setup": ("setup", "configure, install shim and service, start; safe to repeat"),
        "doctor": ("doctor", "check everything; each line names the command that mends it"),
    },
    "Look": {
        "status": ("status", "what every provider has left, and who serves now"),
        "wait": ("wait", "wait until a provider can serve a model"),
        "why": ("why", "why the requests of a model go where they go"),
        "history": ("history", "what was used: requests, errors, tokens, cost by hour or day"),
        "log": ("log", "what happened: switches, limits, recoveries"),
        "state": ("state", "the state in the form of the rate-limit-manager plugin"),
    },
    "Act": {
        "use": ("use", "put one provider before all others, or go back to automatic"),
        "cooldown": ("cooldown", "let a provider rest for a while"),
        "reset": ("reset", "forget counts, cooldowns or both"),
        "enable": ("enable", "let a provider serve again"),
        "disable": ("disable", "keep a provider out until it is enabled"),
    },
    "Configuration": {
        "config": ("configuration", "check or show the configuration, or say where it is"),
        "reload": ("reload", "have the daemon read the configuration again"),
        "limits": ("limits", "limits to write down, from the refusals seen"),
        "simulate": ("simulate", "where a load would go under a configuration"),
        "notify": ("notify", "try the notification targets"),
        "export": ("transfer", "print the whole state as JSON"),
        "import": ("transfer", "take over an export, or the plugin's rate-limit-state.json"),
        "paths": ("configuration", "where configuration, state, socket and log are"),
    },
    "Installation": {
        "start": ("start", "start the daemon"),
        "stop": ("stop", "stop the daemon; what it has recorded stays"),
        "restart": ("restart", "stop the daemon, wait until it is gone, start it"),
        "install": ("agents", "install an agent's shim, or the daemon as a service"),
        "uninstall": ("agents", "remove an agent's shim, or the service"),
        "completion": ("completion", "print the completion script of a shell"),
    },
}
"""Title of a group → command → its file in `rlmctl/commands/` and what it does."""

SUMMARIES = {name: summary for group in COMMANDS.values() for name, (_, summary) in group.items()}


EXAMPLES = {
    "demo": ("rlmctl demo", "rlmctl demo --opencode"),
    "setup": ("rlmctl setup", "rlmctl setup --dry-run", "rlmctl setup --yes --json"),
    "doctor": ("rlmctl doctor", "rlmctl doctor --json"),
    "status": (
        "rlmctl status --watch",
        "rlmctl status --format '{current} {left} left, resets in {resets_in}'",
    ),
    "wait": ("rlmctl wait claude-sonnet-4-5 --timeout 10m && ./nightly.sh",),
    "why": ("rlmctl why claude-sonnet-4-5",),
    "history": ("rlmctl history --since 7d --by day", "rlmctl history --provider anthropic --json"),
    "log": ("rlmctl log --since 2h", "rlmctl log -f"),
    "state": ("rlmctl state --json",),
    "use": ("rlmctl use openrouter", "rlmctl use anthropic --model claude-sonnet-4-5", "rlmctl use auto"),
    "cooldown": ("rlmctl cooldown anthropic 2h", 'rlmctl cooldown anthropic 30m --reason "weekly cap"'),
    "reset": ("rlmctl reset", "rlmctl reset anthropic --cooldowns"),
    "enable": ("rlmctl enable anthropic",),
    "disable": ("rlmctl disable anthropic",),
    "config": ("rlmctl config check", "rlmctl config show", "$EDITOR $(rlmctl config path)"),
    "reload": ("rlmctl reload",),
    "limits": ("rlmctl limits suggest", "rlmctl limits suggest --since 7d --json"),
    "simulate": ("rlmctl simulate --rate 10/m --real anthropic=40/h,no-hint --outage openrouter=3h+20m",),
    "notify": ("rlmctl notify test",),
    "export": ("rlmctl export > state.json",),
    "import": ("rlmctl import state.json", "rlmctl import .opencode/rate-limit-state.json"),
    "paths": ("rlmctl paths --json",),
    "start": ("rlmctl start",),
    "stop": ("rlmctl stop",),
    "restart": ("rlmctl restart",),
    "install": ("rlmctl install opencode", "rlmctl install systemd --dry-run"),
    "uninstall": ("rlmctl uninstall opencode", "rlmctl uninstall systemd"),
    "completion": (
        "source <(rlmctl completion bash)",
        "rlmctl completion zsh > ~/.zfunc/_rlmctl",
        "rlmctl completion fish | source",
    ),
}
"""What a person may type, as `--help` of each command shows it."""


def find(name: str) -> tuple[CommandParser, Callable[[Namespace], int]]:
    """Return the parser of a command and the function that does it. Raises `CommandError` if there is none."""
    if name not in SUMMARIES:
        what = "option" if name.startswith("-") else "command"
        near = did_you_mean(name, [*SUMMARIES, "--help", "--version"])
        raise CommandError(f"There is no {what} {name!r}.{near}", "rlmctl --help", WRONG)
    file = next(group[name][0] for group in COMMANDS.values() if name in group)
    module = import_module(f"rlmctl.commands.{file}")
    parser = CommandParser(prog=f"rlmctl {name}")
    getattr(module, f"add_{name}")(parser)
    parser.explain(SUMMARIES[name], EXAMPLES[name])
    return parser, getattr(module, f"{name}_" if iskeyword(name) else name)


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
