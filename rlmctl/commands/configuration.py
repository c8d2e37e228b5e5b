"""Commands about the configuration file and the places of things: config, paths. They need no daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json, say
from rlmctl.daemon.connection import places
from rlmctl.errors import FINE, WRONG, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from rlmd.config.policy import Config


def add_config(parser: ArgumentParser) -> None:
    """Declare the arguments of `config`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|show|path")
    check = actions.add_parser("check", help="say whether the file can be used, and what is wrong with it")
    show = actions.add_parser("show", help="print what holds, defaults included, addresses of notification masked")
    path = actions.add_parser("path", help="print where the file is")
    for action in (check, show, path):
        add_json(action, "print the result as JSON")
    parser.epilog = "What can be written there: docs/configuration.md"


def config(args: Namespace) -> int:
    """Check or show the configuration, or say where it is."""
    path = str(places().config)
    if args.action == "path":
        print_json({"config": path}) if args.json else print(path)
        return FINE
    found = read()
    if args.action == "show":
        print_json(masked(found))
        return FINE
    for warning in found.warnings:
        say(f"warning: {warning}")
    providers, models = (
        len(found.policy.providers),
        len({name for p in found.policy.providers for name in p.models}),
    )
    from rlmctl.insight import stand_ins

    if args.json:
        told = stand_ins.as_json(found.policy)
        print_json({"config": path, "valid": True, "warnings": list(found.warnings), "models": told})
        return FINE
    print(f"{path} can be used; providers: {providers}, models: {models}")
    for line in stand_ins.lines(found.policy):
        if line.fine:
            print(line.text)
        else:
            say(f"warning: {line.text}\n  mend: {line.mend}")
    return FINE


def add_paths(parser: ArgumentParser) -> None:
    """Declare the arguments of `paths`."""
    add_json(parser, "print them as JSON")
    parser.epilog = "RLMD_CONFIG, RLMD_STATE_DIR and RLMD_SOCKET change them, for the daemon and the agent alike."


def paths(args: Namespace) -> int:
    """Print where everything is."""
    found = {name: str(path) for name, path in places()._asdict().items()}
    if args.json:
        print_json(found)
    else:
        for name, path in found.items():
            print(f"{name:<10} {path}")
    return FINE


def read() -> Config:
    """Return the configuration. Raises `CommandError` if there is none that can be used."""
    from rlmd.config.policy import ConfigError, load

    try:
        return load(places().config)
    except ConfigError as error:
        raise CommandError(str(error), code=WRONG) from None


def masked(config: Config) -> dict[str, Any]:
    """Return a configuration for JSON. Addresses of notification are secrets: only their kind is kept."""
    from msgspec import to_builtins

    shown: dict[str, Any] = to_builtins(config, enc_hook=str)
    shown["notify"]["targets"] = [f"{target.partition('://')[0]}://…" for target in config.notify.targets]
    return shown
