"""The command that tries a configuration out under a described load, on a virtual clock. It needs no daemon."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

from rlmctl.commands import add_json, print_json, say
from rlmctl.daemon.connection import places
from rlmctl.errors import FINE, WRONG, CommandError, did_you_mean

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from rlmctl.simulation.provider import Behaviour
    from rlmctl.simulation.run import Load
    from rlmd.config.policy import Config
    from rlmd.core.model import Limit, Policy, Quantity, WindowKind

START = datetime(2026, 1, 12)  # noqa: DTZ001  (midnight in the configuration's own zone)
"""A Monday."""
MOST = 10_000_000
"""Requests. They take some minutes."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(\d*(?:s|m|h|d))")
_TOKENS = re.compile(r"(\d+)(?:\+(\d+))?")
_LIMIT = re.compile(
    r"([1-9]\d*)(requests|tokens|input_tokens|output_tokens)?/(month|\d*[smhdw])(?::(calendar|rolling|first_use))?"
)
_CALENDAR = {"1h", "1d", "1w", "month"}

_MORE = f"""\
LIMITS is what the provider really does, a list with commas of:
  40/h  400000tokens/m  45/5h:first_use
               a limit of requests, tokens, input_tokens or output_tokens in s, m, h, d,
               w, 5h, month; calendar, rolling or first_use as in the configuration
  unlimited    no limit, whatever is configured
  no-hint      it refuses without saying until when (no retry-after)
  529          it refuses as overloaded, not with 429
Where the list holds no limit, those configured are real. Providers of one account share
their limits.

Of what is sent to a provider, it served, or refused because of a limit: "refused" are
those that could not be foreseen, "probes" those that tried whether a rest is over, "in
flight" those sent before an earlier refusal was known; "failed" found nobody there.
"left" are conversations that went on at another provider.

The clock starts at midnight on {START:%A, %d %B %Y}. The same arguments give the same
result. Nothing is sent anywhere. Limits on cost are not simulated."""


class Real(NamedTuple):
    """What `--real` says of a provider."""

    provider: str
    limits: tuple[Limit, ...]
    words: frozenset[str]


class Outage(NamedTuple):
    """What `--outage` says of a provider; seconds, from the start of the simulation."""

    provider: str
    start: float
    length: float


def add_simulate(parser: ArgumentParser) -> None:
    """Declare the arguments of `simulate`."""
    load = parser.add_argument_group("the load")
    load.add_argument("--hours", type=_hours, default="24", metavar="N", help="how long it lasts (default 24)")
    load.add_argument(
        "--rate", type=_rate, default="120/h", help="requests in a time, on average: 120/h (default), 10/s, 2/m"
    )
    load.add_argument(
        "--sessions",
        type=_whole(1, 10_000),
        default="40",
        metavar="N",
        help="conversations that make them (default 40)",
    )
    load.add_argument(
        "--turn", type=_whole(1, 10_000), default="20", metavar="N", help="requests of a turn, on average (default 20)"
    )
    load.add_argument(
        "--tokens",
        type=_tokens,
        default="8000+500",
        metavar="IN[+OUT]",
        help="of a request, known beforehand, and of its answer, on average (default 8000+500), from half to one and a "
        "half times as many",
    )
    load.add_argument(
        "--duration", type=_span, default="10s", metavar="SPAN", help="of an answer, on average (default 10s), likewise"
    )
    load.add_argument("--model", help="its canonical name (default: the first one of the best provider)")
    load.add_argument("--seed", type=_whole(0, 2**32), default="1", metavar="N", help="of what is chance (default 1)")
    world = parser.add_argument_group("the providers")
    world.add_argument("--config", metavar="FILE", help="configuration to try (default: the one in use)")
    world.add_argument(
        "--real",
        type=_real,
        action="append",
        default=[],
        metavar="PROVIDER=LIMITS",
        help="what is really enforced, see below (repeatable)",
    )
    world.add_argument(
        "--outage",
        type=_outage,
        action="append",
        default=[],
        metavar="PROVIDER=START+SPAN",
        help="nobody is there: anthropic=3h+20m, three hours from the start (repeatable)",
    )
    add_json(parser, "print the result as JSON; times in UTC")
    parser.epilog = _MORE


def simulate(args: Namespace) -> int:
    """Show where a load would go, what would be refused, and what would have to wait."""
    from random import Random

    from rlmctl.show.simulation_table import as_json, show
    from rlmctl.simulation.run import simulate as run

    config = _read(args)
    load = _load(args, config)
    behaviours = _behaviours(args, config.policy, load.start)
    if any(limit.of == "cost" for provider in config.policy.providers for limit in provider.limits):
        say("warning: Limits on cost are not simulated.")
    result = run(config.policy, load, behaviours, Random(args.seed))  # noqa: S311  (no secret)
    if args.json:
        print_json({"seed": args.seed, **as_json(result)})
    else:
        show(result, config.policy.zone or UTC)
        print(f"\nseed {args.seed}: the same arguments give the same result")
    return FINE


def _read(args: Namespace) -> Config:
    from pathlib import Path

    from rlmd.config.policy import ConfigError, load

    try:
        config = load(Path(args.config) if args.config else places().config)
    except ConfigError as error:
        raise CommandError(str(error), code=WRONG) from None
    if not config.policy.providers:
        raise CommandError("The configuration names no provider.", "rlmctl setup", WRONG)
    return config


def _load(args: Namespace, config: Config) -> Load:
    from rlmctl.simulation.run import Load

    providers = sorted(config.policy.providers, key=lambda p: (not p.enabled, p.priority, p.id))
    model = args.model or next(iter(providers[0].models))
    if args.rate * args.hours * 3600 > MOST:
        raise CommandError(f"That would be more than {MOST:,} requests.", "a smaller --rate or fewer --hours", WRONG)
    asked = next((provider for provider in providers if model in provider.models), None)
    if asked is None:
        models = list(dict.fromkeys(name for provider in providers for name in provider.models))
        near = did_you_mean(model, models)
        mend = f"--model with one of {', '.join(models)}"
        raise CommandError(f"No provider serves the model {model!r}.{near}", mend, WRONG)
    return Load(
        start=START.replace(tzinfo=config.policy.zone or UTC).timestamp(),
        span=args.hours * 3600,
        rate=args.rate,
        provider=asked.id,
        model=asked.models[model].name,
        sessions=args.sessions,
        turn=args.turn,
        duration=args.duration,
        input=args.tokens[0],
        output=args.tokens[1],
        wait=config.agent.wait,
    )


def _behaviours(args: Namespace, policy: Policy, start: float) -> dict[str, Behaviour]:
    """Gather what the options say of each provider. Raises `CommandError` if there is none of that name."""
    from msgspec.structs import replace

    from rlmctl.simulation.provider import Behaviour

    ids = [provider.id for provider in policy.providers]
    behaviours: dict[str, Behaviour] = {}
    said: Real | Outage
    for said in (*args.real, *args.outage):
        if said.provider not in ids:
            near = did_you_mean(said.provider, ids)
            raise CommandError(f"There is no provider {said.provider!r}.{near}", f"name one of {', '.join(ids)}", WRONG)
        known = behaviours.get(said.provider, Behaviour())
        if isinstance(said, Outage):
            since = start + said.start
            known = replace(known, outages=(*known.outages, (since, since + said.length)))
        else:
            zone = policy.zone or UTC
            limits = tuple(replace(limit, zone=zone) for limit in said.limits)
            known = replace(
                known,
                limits=(*(known.limits or ()), *limits) if limits or "unlimited" in said.words else known.limits,
                status=529 if "529" in said.words else known.status,
                hint=known.hint and "no-hint" not in said.words,
            )
        behaviours[said.provider] = known
    return behaviours


def _hours(written: str) -> float:
    try:
        hours = float(written)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 366:
        raise ArgumentTypeError(f'"{written}" is no number of hours up to a year: write 24 or 0.5')
    return hours


def _rate(written: str) -> float:
    """Read a rate as requests a second."""
    found = _RATE.fullmatch(written)
    if not found or not float(found[1]):
        raise ArgumentTypeError(f'"{written}" is no rate: write 120/h, 10/s or 2/m')
    return float(found[1]) / _span(_with_number(found[2]))


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(written: str) -> int:
        if not written.isdecimal() or not least <= int(written[:20]) <= most:
            raise ArgumentTypeError(f'"{written}" is no whole number from {least:,} to {most:,}')
        return int(written)

    return read


def _tokens(written: str) -> tuple[int, int]:
    found = _TOKENS.fullmatch(written)
    if not found:
        raise ArgumentTypeError(f'"{written}" is no number of tokens: write 8000 or 8000+500')
    return int(found[1]), int(found[2] or 0)


def _seconds(written: str) -> float:
    from rlmd.config.durations import parse

    try:
        return parse(written)
    except ValueError as error:
        raise ArgumentTypeError(f'"{written}" {error}') from None


def _span(written: str) -> float:
    if seconds := _seconds(written):
        return seconds
    raise ArgumentTypeError(f'"{written}" is no time at all: write 10s')


def _with_number(unit: str) -> str:
    """Write `h` as `1h`."""
    return unit if unit[0].isdigit() else f"1{unit}"


def _real(written: str) -> Real:
    provider, _, things = written.partition("=")
    if not things:
        raise ArgumentTypeError(f'"{written}" says nothing of a provider: write anthropic=40/h,no-hint')
    named = things.split(",")
    words = frozenset(named) & {"unlimited", "no-hint", "429", "529"}
    return Real(provider, tuple(_limit(thing) for thing in named if thing not in words), words)


def _limit(written: str) -> Limit:
    """Read `40/h` or `400000tokens/m:rolling`; the zone is the configuration's."""
    from rlmd.config.durations import span
    from rlmd.core.model import Limit

    found = _LIMIT.fullmatch(written)
    if not found:
        raise ArgumentTypeError(
            f'"{written}" is no limit: write 40/h, 400000tokens/m, 45/5h:first_use, unlimited or no-hint'
        )
    per = found[3] if found[3] == "month" else span(_span(_with_number(found[3])))
    window = found[4] or ("calendar" if per in _CALENDAR else "rolling")
    if (window == "calendar" and per not in _CALENDAR) or (window != "calendar" and per == "month"):
        raise ArgumentTypeError(f'"{written}" cannot be: calendar has 1h, 1d, 1w and month, and month is calendar')
    of = found[2] or "requests"
    return Limit(cast("Quantity", of), int(found[1]), per, cast("WindowKind", window), UTC)


def _outage(written: str) -> Outage:
    provider, _, times = written.partition("=")
    start, _, length = times.partition("+")
    if not start or not length:
        raise ArgumentTypeError(f'"{written}" is no outage: write anthropic=3h+20m')
    return Outage(provider, _seconds(start), _span(length))
