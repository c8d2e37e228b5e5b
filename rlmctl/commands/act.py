"""Commands that change what the daemon decides: use, cooldown, reset, enable, disable, reload.

Each is one request. The daemon knows the providers, so it says what is wrong with a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlmctl.commands import FINE, add_json, ask, print_json, seconds

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_use(parser: ArgumentParser) -> None:
    """Declare the arguments of `use`."""
    parser.add_argument("provider", metavar="PROVIDER|auto", help="whom to try first; auto: by priority")
    parser.add_argument("--model", help="for this model only")
    add_json(parser)


def use(args: Namespace) -> int:
    """Put a provider before all others."""
    provider = None if args.provider == "auto" else args.provider
    return _done(args, ask("pin", provider=provider, model=args.model))


def add_cooldown(parser: ArgumentParser) -> None:
    """Declare the arguments of `cooldown`."""
    parser.add_argument("provider", metavar="PROVIDER")
    parser.add_argument("duration", metavar="DURATION", help="such as 90s, 30m, 1h30m or 2d")
    parser.add_argument("--model", help="this model of the provider only")
    parser.add_argument("--reason", help="a few words that status and log will show")
    add_json(parser)
    parser.epilog = "End it early: rlmctl reset PROVIDER --cooldowns"


def cooldown(args: Namespace) -> int:
    """Let a provider rest."""
    span = round(seconds(args.duration, f"rlmctl cooldown {args.provider} 1h") * 1000)
    order = {"provider": args.provider, "model": args.model, "for_ms": span, "reason": args.reason}
    return _done(args, ask("cooldown", **order))


def add_reset(parser: ArgumentParser) -> None:
    """Declare the arguments of `reset`."""
    parser.add_argument("provider", metavar="PROVIDER", nargs="?", help="this one only; default: all")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--counters", action="store_const", const="counters", dest="what", help="counts only")
    only.add_argument("--cooldowns", action="store_const", const="cooldowns", dest="what", help="no counts")
    parser.set_defaults(what="all")
    add_json(parser)


def reset(args: Namespace) -> int:
    """Forget counts, cooldowns or both."""
    return _done(args, ask("reset", provider=args.provider, what=args.what))


def add_enable(parser: ArgumentParser) -> None:
    """Declare the arguments of `enable`."""
    parser.add_argument("provider", metavar="PROVIDER")
    add_json(parser)


def enable(args: Namespace) -> int:
    """Let a provider serve again."""
    return _done(args, ask("enable", provider=args.provider))


def add_disable(parser: ArgumentParser) -> None:
    """Declare the arguments of `disable`."""
    parser.add_argument("provider", metavar="PROVIDER")
    add_json(parser)
    parser.epilog = "It stays out across restarts, until: rlmctl enable PROVIDER"


def disable(args: Namespace) -> int:
    """Keep a provider out."""
    return _done(args, ask("disable", provider=args.provider))


def add_reload(parser: ArgumentParser) -> None:
    """Declare the arguments of `reload`."""
    add_json(parser)
    parser.epilog = "A configuration with an error changes nothing: the daemon keeps the one it has."


def reload(args: Namespace) -> int:
    """Have the configuration read again."""
    return _done(args, ask("reload"))


def _done(args: Namespace, reply: dict[str, Any]) -> int:
    if args.json:
        print_json(reply)
    else:
        print(reply["message"])
    return FINE
