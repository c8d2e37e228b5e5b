"""The configuration that `rlmctl setup` writes: its text with comments, in a file that is never replaced."""

from __future__ import annotations

import json
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.agents.opencode.configuration import group
from rlmctl.agents.opencode.keys import accounts, variables
from rlmctl.errors import WRONG, CommandError
from rlmctl.setup.published_limits import READ, published

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from rlmctl.agents.opencode.configuration import Found
    from rlmctl.setup.published_limits import Published

HEAD = """\
# rlmd: which provider a coding agent uses while another one limits it. All keys: docs/configuration.md
# `rlmctl setup` wrote this file once and changes nothing in it: it is yours.
# After a change: rlmctl config check && rlmctl reload. Keys and tokens have no place here.
"""

LIMITS = """\
# hourly_limit = 50     # what your plan allows; without it only the provider's own refusals count
# daily_limit = 1000    # see `rlmctl limits suggest` after a week
"""

EXAMPLE = """
# No provider was found. Take the # away from what follows and make it yours: every provider that serves the
# same model can stand in for the others.

# [[provider]]
# id = "anthropic"                     # OpenCode's own id of the provider
# priority = 1                         # 1 is tried first; equal numbers share the load
# models = ["claude-sonnet-4-5"]       # OpenCode's own names of the models
# hourly_limit = 50
# daily_limit = 1000

# [[provider]]
# id = "openrouter"
# priority = 2
# hourly_limit = 100
# daily_limit = 2000
# [provider.models]                    # where its names differ: name here = name there
# "claude-sonnet-4-5" = "anthropic/claude-sonnet-4.5"
"""


class Choice(NamedTuple):
    """What a person has chosen of what is proposed."""

    order: tuple[str, ...]
    """Who is tried first; providers that are not named follow."""
    accounts: Mapping[str, str]
    """Provider → account, for those that share one."""
    limits: frozenset[str] = frozenset()
    """The providers whose published limits are the person's own."""


def propose(found: Found) -> Choice:
    """Return what is chosen where nobody is asked: the order of OpenCode's files, accounts by key, no limits."""
    return Choice(tuple(served(found)), accounts(found.keys))


def served(found: Found) -> dict[str, list[str]]:
    """Return the providers of which a model is known."""
    return {provider: names for provider, names in found.providers.items() if names}


def compose(found: Found, choice: Choice | None = None) -> str:
    """Return the text of a first configuration."""
    choice = choice or propose(found)
    text = HEAD + "".join(f"# Names taken from {file}\n" for file in found.files)
    text += tables(found, choice) or EXAMPLE
    for provider in (name for name, models in found.providers.items() if not models):
        where = "You are logged in to" if provider in found.logins else "OpenCode's configuration has"
        text += f"\n# {where} {provider} too, and no model of it is named anywhere: add it by hand.\n"
    return text


def tables(found: Found, choice: Choice, *, without: Collection[str] = ()) -> str:
    """Return the tables of the providers in their order; of those beside `without`, which are there already."""
    known = group(served(found))
    order = [*choice.order, *(provider for provider in known if provider not in choice.order)]
    text, first = "", not without
    for priority, provider in enumerate(order, 1):
        if provider not in without:
            text += _entry(found, choice, provider, priority, known[provider], explained=first)
            first = False
    return text


def write(path: Path, text: str) -> None:
    """Write the file, readable by its owner only. Raises `CommandError` where that cannot be done."""
    if path.is_symlink() and not path.exists():
        target = path.resolve()
        raise CommandError(
            f"{path} is a link to {target}, and that file is not there. Nothing was written.",
            f"rm {quote(str(path))}, or bring {target} back; then: rlmctl setup",
            WRONG,
        )
    try:
        with suppress(FileExistsError):  # if it is there as a file, the next line says so better
            path.parent.mkdir(mode=0o700, parents=True)
        # Exclusively: a file that came into being meanwhile is somebody's work.
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"The configuration cannot be written: {error.strerror}: {error.filename}.",
            "set RLMD_CONFIG to a file that you may write, for the daemon and the agent alike",
            WRONG,
        ) from None


def append(path: Path, text: str) -> None:
    """Add to the end of a file that is there. Raises `CommandError` where that cannot be done."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        message = f"The configuration cannot be written: {error.strerror}: {error.filename}."
        raise CommandError(message, f"chmod u+w {path}", WRONG) from None


def _entry(
    found: Found, choice: Choice, provider: str, priority: int, names: dict[str, str], *, explained: bool
) -> str:
    comment = "            # 1 is tried first; equal numbers share the load" if explained else ""
    why = found.borrowed.get(provider)
    text = f"\n# Not named in a file of OpenCode's ({why}): its models are from OpenCode's own list" if why else ""
    text += f"\n[[provider]]\nid = {_quoted(provider)}\npriority = {priority}{comment}\n"
    if account := choice.accounts.get(provider):
        others = [other for other in choice.accounts if choice.accounts[other] == account and other != provider]
        key = ", ".join(variables(found.keys.get(provider, frozenset()))) or "one key"
        text += f"account = {_quoted(account)}  # {key}, as {', '.join(others)}: used up for one is used up for all\n"
    plain = all(canonical == name for canonical, name in names.items())
    if plain:
        text += f"models = [{', '.join(map(_quoted, names))}]\n"
    limits = published(provider, list(names.values()))
    if not limits:
        text += LIMITS if explained else "# hourly_limit = 50\n# daily_limit = 1000\n"
    text += "".join(_limit(limit, holds=provider in choice.limits) for limit in limits)
    if not plain:
        text += "[provider.models]         # the name here = this provider's own name\n"
        text += "".join(f"{_quoted(canonical)} = {_quoted(name)}\n" for canonical, name in names.items())
    return text


def _limit(limit: Published, *, holds: bool) -> str:
    if holds:
        text, mark = f"# {limit.plan}: {limit.source} ({READ})\n", ""
    else:
        text, mark = f"# {limit.plan}: {limit.source} ({READ}). If that is yours, take the # away:\n", "# "
    lines = ("[[provider.limit]]", 'of = "requests"', f"max = {limit.max:_}", f'per = "{limit.per}"')
    return text + "".join(f"{mark}{line}\n" for line in lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
