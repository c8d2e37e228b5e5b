"""The configuration: what a person wrote down, checked as a whole and turned into the core's policy.

Owns what the tables of schema.py mean together. A configuration is taken whole or not at all: the first
mistake raises ConfigError, whose text is for the person; what deserves a remark only is in `Config.warnings`.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from datetime import UTC, time
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from msgspec import Struct

from rlmd.config import patterns, zones
from rlmd.config.document import VARIABLE, ConfigError, Document, KeyPath, likely, misplaced
from rlmd.config.tables import File, LimitTable, ModelTable, Name, ProviderTable
from rlmd.core.model import Cooldown, EventKind, Limit, Policy, Provider, ProviderModel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path
    from zoneinfo import ZoneInfo

__all__ = ["Agent", "Config", "ConfigError", "MissingConfigError", "Notify", "load", "parse"]

PRIVATE = 0o600
"""Who may read a text that is no file of anybody's."""
_CALENDAR = {"1h", "1d", "1w", "month"}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+", re.DOTALL)


class MissingConfigError(ConfigError):
    """There is no file."""


class Agent(Struct, frozen=True):
    """How the agent's shim behaves; seconds."""

    daemon_timeout: float
    first_byte: float
    """0 is never."""
    wait: float
    stderr: bool


class Notify(Struct, frozen=True):
    """Whom to tell what. The addresses are secrets and stay out of `repr`."""

    targets: tuple[str, ...]
    """Apprise addresses, variables resolved."""
    events: tuple[EventKind, ...]
    quiet_hours: tuple[time, time] | None
    """From and until when nobody is told, in the policy's zone; the first may be the later one."""

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # typing.override is 3.12's
        return f"Notify({len(self.targets)} targets, events={self.events}, quiet_hours={self.quiet_hours})"


class Config(Struct, frozen=True):
    """Everything that a person decides."""

    policy: Policy
    agent: Agent
    notify: Notify
    history_keep: float
    """Seconds."""
    autostart: bool
    warnings: tuple[str, ...]
    """Whole sentences about what works and was probably not meant."""


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file at `path`, and what `environ` adds to it. Raises what `read` and `parse` do."""
    text, mode = read(path, environ)
    return parse(text, environ, source=str(path), mode=mode)


def read(path: Path, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return the text of the file, and who may read it, as a file has it.

    Raises MissingConfigError where there is no file (and `RLMD_PROVIDERS` does not stand in for it),
    ConfigError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read().decode("utf-8-sig"), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if environ.get(VARIABLE):
            return "", PRIVATE
        raise MissingConfigError(f"There is no configuration at {path}. Write one with: rlmctl setup") from None
    except OSError as error:
        raise ConfigError(f"{path}: The file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: The file is no UTF-8 text (byte {error.start}). Save it in that encoding."
        ) from None


def parse(text: str, environ: Mapping[str, str], *, source: str, mode: int = PRIVATE, lenient: bool = False) -> Config:
    """Read the TOML `text` and what `environ` adds to it. Raises ConfigError.

    `source` is what messages call the text; `mode` is who may read it. Where it is read `lenient`ly, a pattern whose
    expression is refused is left out, with a warning.
    """
    local = zones.local(environ)
    document = Document(source, text, local)
    file = document.toml()
    zone = file.time_zone or local
    warnings: list[str] = []
    providers = _providers(document, file, environ, zone)
    if not providers:
        warnings.append(
            f"{source}: There is no provider, so nothing is routed. "
            "Add a [[provider]] (docs/configuration.md), then: rlmctl reload"
        )
    targets = _targets(document, file, environ, warnings)
    if mode & 0o077 and any(map(_ADDRESS.fullmatch, file.notify.targets)):
        warnings.append(
            f"{source}: It holds notification addresses, which are secrets, and others may read it. "
            f"Run: chmod 600 {shlex.quote(source)}"
        )
    return Config(
        policy=Policy(
            providers=providers,
            fallback=_fallback(document, file, providers),
            prefer=file.prefer,
            strategy=file.strategy,
            failback=file.failback,
            patience=float(file.patience),
            cooldown=_cooldown(document, file, providers, warnings if lenient else None),
            zone=zone,
        ),
        agent=Agent(
            daemon_timeout=float(file.agent.daemon_timeout),
            first_byte=float(file.agent.first_byte),
            wait=float(file.agent.wait),
            stderr=file.agent.stderr,
        ),
        notify=Notify(
            targets=targets,
            events=tuple(dict.fromkeys(file.notify.events)),
            quiet_hours=file.notify.quiet_hours,
        ),
        history_keep=float(file.history.keep),
        autostart=file.autostart,
        warnings=tuple(warnings),
    )


def _providers(document: Document, file: File, environ: Mapping[str, str], zone: ZoneInfo) -> tuple[Provider, ...]:
    """Return the providers of `RLMD_PROVIDERS` if it is set, else those of the file."""
    tables = file.provider
    if replaced := environ.get(VARIABLE):
        document = Document(VARIABLE, replaced, document.local)
        tables = document.json()
    providers: dict[str, Provider] = {}
    for index, table in enumerate(tables):
        path = ("provider", index)
        if table.id in providers:
            first = document.place(("provider", [*providers].index(table.id), "id"))
            raise document.error((*path, "id"), f'is "{table.id}" again, as in {first}. Make one table of the two.')
        models = _models(document, (*path, "models"), table.models)
        providers[table.id] = Provider(
            id=table.id,
            priority=table.priority,
            models=models,
            account=table.account or table.id,
            enabled=table.enabled,
            limits=_limits(document, path, table, models, zone),
        )
    return tuple(providers.values())


def _models(document: Document, path: KeyPath, written: list[str] | dict[str, object]) -> dict[str, ProviderModel]:
    """Return a provider's models by their canonical names."""
    if not written:
        raise document.error(path, 'is empty. Name at least one, such as "claude-sonnet-4-5".')
    models: dict[str, ProviderModel] = {}
    canonical: dict[str, str] = {}
    for index, name in enumerate(written):
        here: KeyPath
        if isinstance(written, dict):
            here = (*path, name)
            model = _model(document, here, name, written[name])
        else:
            here = (*path, index)
            model = ProviderModel(name)
        if other := canonical.get(model.name):
            again = "there twice" if other == name else f'"{model.name}", and so is "{other}"'
            raise document.error(here, f"is {again}. Leave one of the two out.")
        canonical[model.name] = name
        models[name] = model
    return models


def _model(document: Document, path: KeyPath, name: str, written: object) -> ProviderModel:
    """Read one entry of [provider.models], where the keys are anyone's and so may be misplaced ones."""
    if sentence := misplaced(name):
        raise document.error(path, sentence)
    if not name:
        raise document.error(path, "has no name. Write the model's name before the equals sign.")
    if not isinstance(written, str | dict):
        raise document.error(
            path,
            "must be this provider's name of the model in quotes, or a table of its name and context. "
            "If it is no model, move it: TOML puts keys written after [provider.models] into that table.",
        )
    if isinstance(written, str):
        return ProviderModel(document.read(written, Name, path))
    table = document.read(written, ModelTable, path)
    return ProviderModel(table.name, table.context)


def _limits(
    document: Document, path: KeyPath, table: ProviderTable, models: Collection[str], zone: ZoneInfo
) -> tuple[Limit, ...]:
    """Return a provider's limits, the shorthands first. No two count the same."""
    zone = table.time_zone or zone
    limits: dict[str, Limit] = {}
    named: dict[str, str] = {}
    for name, maximum, per in (
        ("hourly_limit", table.hourly_limit, "1h"),
        ("daily_limit", table.daily_limit, "1d"),
    ):
        if maximum:
            limit = Limit("requests", maximum, per, "calendar", zone)
            limits[limit.key], named[limit.key] = limit, name
    for index, extra in enumerate(table.limit):
        here = (*path, "limit", index)
        limit = _limit(document, here, extra, models, zone)
        if limit.key in limits:
            raise document.error(here, f"limits the same as {named[limit.key]}. Leave one of the two out.")
        limits[limit.key], named[limit.key] = limit, f"limit[{index}]"
    return tuple(limits.values())


def _limit(document: Document, path: KeyPath, table: LimitTable, models: Collection[str], zone: ZoneInfo) -> Limit:
    window = table.window or ("calendar" if table.per in _CALENDAR else "rolling")
    if window == "calendar" and table.per not in _CALENDAR:
        raise document.error(
            (*path, "window"),
            f'cannot be "calendar" with per = "{table.per}": the calendar has "1h", "1d", "1w" and "month". '
            'Write "rolling" or "first_use".',
        )
    if window != "calendar" and table.per == "month":
        raise document.error(
            (*path, "window"), f'cannot be "{window}" with per = "month": months differ. Write per = "30d".'
        )
    if table.of != "cost" and table.max % 1:
        raise document.error((*path, "max"), f"must be a whole number of {table.of}.")
    if table.model and table.model not in models:
        raise document.error(
            (*path, "model"),
            f'is "{table.model}", which this provider does not serve. {likely(table.model, models)}',
        )
    return Limit(
        of=table.of,
        max=table.max if table.max % 1 else int(table.max),
        per=str(table.per),
        window=window,
        # Elsewhere a zone means nothing, and its change would part the counter from its past.
        zone=(table.time_zone or zone) if window == "calendar" else UTC,
        model=table.model,
        warn_at=tuple(sorted(set(table.warn_at))),
    )


def _fallback(document: Document, file: File, providers: tuple[Provider, ...]) -> dict[str, tuple[str, ...]]:
    """Return who may stand in for whom: models that somebody serves, without circles."""
    served = dict.fromkeys(model for provider in providers for model in provider.models)
    fallback: dict[str, tuple[str, ...]] = {}
    for index, table in enumerate(file.fallback):
        path = ("fallback", index)
        places = [
            ((*path, "model"), table.model),
            *(((*path, "to", at), to) for at, to in enumerate(table.to)),
        ]
        for here, model in places:
            if model not in served:
                raise document.error(here, f'is "{model}", which no provider serves. {likely(model, served)}')
        if table.model in fallback:
            raise document.error((*path, "model"), f'is "{table.model}" again. Put all into one table.')
        if len({*table.to}) < len(table.to):
            raise document.error((*path, "to"), "names a model twice. Leave one of the two out.")
        fallback[table.model] = tuple(table.to)
    try:
        TopologicalSorter(fallback).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        here = ("fallback", [*fallback].index(circle[0]), "to")
        raise document.error(here, f"leads in a circle: {' → '.join(circle)}. Leave one of them out.") from None
    return fallback


def _cooldown(document: Document, file: File, providers: tuple[Provider, ...], refused: list[str] | None) -> Cooldown:
    table = file.cooldown
    if table.throttle > table.throttle_max:
        raise document.error(
            ("cooldown", "throttle_max"), "is shorter than throttle, which doubles up to it. Make it longer."
        )
    return Cooldown(
        default=float(table.default),
        throttle=float(table.throttle),
        throttle_max=float(table.throttle_max),
        overloaded=float(table.overloaded),
        longest=float(table.longest),
        patterns=patterns.read(document, table.pattern, [provider.id for provider in providers], refused),
    )


def _targets(document: Document, file: File, environ: Mapping[str, str], warnings: list[str]) -> tuple[str, ...]:
    """Return the addresses to notify. A variable that holds none is a warning: the file is not at fault."""
    targets: dict[str, None] = {}
    variables = {"SLACK_WEBHOOK": "SLACK_WEBHOOK"} if environ.get("SLACK_WEBHOOK") else {}
    for index, written in enumerate(file.notify.targets):
        path = ("notify", "targets", index)
        if written.startswith("env:"):
            variables[written.removeprefix("env:")] = document.place(path)
        elif _ADDRESS.fullmatch(written):
            targets[written] = None
        else:
            raise document.error(
                path,
                'is no address. Write an Apprise one, "scheme://…", or "env:NAME" where a variable holds it.',
            )
    for name, place in variables.items():
        address = environ.get(name, "").strip()
        if _ADDRESS.fullmatch(address):
            targets[address] = None
        else:
            state = "holds no address" if address else "is not set"
            warnings.append(f"{place} is a variable that {state}, so nobody is notified there.")
    return tuple(targets)
