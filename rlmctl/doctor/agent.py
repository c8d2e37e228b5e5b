"""Whether OpenCode and the configuration speak of the same providers, and whether OpenCode has their keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl.agents.opencode import configuration
from rlmctl.agents.opencode.keys import KEY_VARIABLES, sources, variables
from rlmctl.doctor import Check
from rlmctl.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmctl.agents.opencode.configuration import Found
    from rlmd.config.policy import Config
    from rlmd.core.model import Provider
    from rlmd.paths import Paths


def agent(paths: Paths) -> Iterator[Check]:
    """Check OpenCode, its shim and its configuration as it would be for an OpenCode started here."""
    from rlmctl.agents import opencode

    yield from (Check(*found) for found in opencode.findings(paths, Path.cwd()))
    found = configuration.look(Path.cwd(), os.environ)
    for problem in found.problems:
        yield Check("OpenCode's file", "wrong", problem, "mend it; OpenCode refuses it, too")
    for file, key, name in found.literals:
        meaning = f"{file}: {key} has ${{{name}}}, which OpenCode sends to the provider as it stands"
        yield Check("key", "wrong", meaning, f"write {{env:{name}}} there")
    config = _config(paths)
    if config is not None and configuration.opencode_is_here(os.environ):
        yield from _providers(config, found)
        yield from _keys(config, found)


def _config(paths: Paths) -> Config | None:
    from rlmd.config.policy import ConfigError, load

    try:
        return load(paths.config)
    except ConfigError:
        return None  # another check says so


def _providers(config: Config, found: Found) -> Iterator[Check]:
    """Compare who is configured here with whom OpenCode knows, and the names of their models."""
    ids = [provider.id for provider in config.policy.providers]
    catalogue = configuration.catalogue(os.environ)
    for provider in config.policy.providers:
        if provider.id not in {*found.providers, *KEY_VARIABLES, *catalogue}:
            near = did_you_mean(provider.id, found.providers)
            meaning = f"{provider.id} is configured here, and OpenCode knows no provider of that name.{near}"
            mend = "name it as OpenCode does (opencode models), or take it out, then: rlmctl reload"
            yield Check("providers", "warning", meaning, mend)
        else:
            yield from _models(provider, found.providers.get(provider.id, []), catalogue.get(provider.id))
    missing = [name for name, models in found.providers.items() if models and name not in ids]
    if missing and ids:
        meaning = f"OpenCode has {', '.join(missing)} too: not configured here, so never a stand-in"
        yield Check("providers", "warning", meaning, "rlmctl setup  (shows what to add)")


def _models(provider: Provider, named: list[str], listed: list[str] | None) -> Iterator[Check]:
    """Compare the names of a provider's models with those that OpenCode has, where it has said all of them."""
    if listed is None and (provider.id in KEY_VARIABLES or not named):
        return  # OpenCode fetches the list of such a provider when it starts
    known = [*named, *(listed or ())]
    for offer in provider.models.values():
        if offer.name not in known:
            near = did_you_mean(offer.name, known)
            meaning = f"OpenCode knows no model {offer.name!r} of {provider.id}.{near}"
            yield Check("models", "warning", meaning, "name it as OpenCode does (opencode models), then: rlmctl reload")


def _keys(config: Config, found: Found) -> Iterator[Check]:
    """Look whether the variables are set here that the keys of the configured providers are to come from.

    OpenCode may be started elsewhere, or have a key that no file of it names: what is not set here may be set there.
    """
    for provider in config.policy.providers:
        named = found.keys.get(provider.id)
        key = sources(provider.id, {}, found.logins) if named is None else named
        unset = [name for name in variables(key) if not os.environ.get(name)]
        if provider.enabled and unset:
            meaning = f"{provider.id} takes its key from {', '.join(unset)}, which is not set in this shell"
            mend = f"export {unset[0]}=... where OpenCode is started (it reads no .env), or: opencode auth login"
            yield Check("key", "warning", meaning, mend)
