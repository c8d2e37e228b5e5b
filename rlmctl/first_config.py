"""The configuration that `rlmctl setup` writes: its text with comments, in a file that is never replaced."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from rlmctl.commands import WRONG, CommandError
from rlmctl.discovery import group

if TYPE_CHECKING:
    from pathlib import Path

    from rlmctl.discovery import Found

HEAD = """\
# rlmd: which provider a coding agent uses while another one limits it. All keys: docs/configuration.md
# `rlmctl setup` wrote this file once and never changes it: it is yours.
# After a change: rlmctl config check && rlmctl reload. Keys and tokens have no place here.
"""

LIMITS = """\
# hourly_limit = 50     # what your plan allows; without it only the provider's own refusals count
# daily_limit = 1000
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


def compose(found: Found) -> str:
    """Return the text of a first configuration."""
    text = HEAD + "".join(f"# Names taken from {file}\n" for file in found.files)
    known = {provider: names for provider, names in found.providers.items() if names}
    for priority, (provider, names) in enumerate(group(known).items(), 1):
        text += _entry(provider, priority, names)
    if not known:
        text += EXAMPLE
    for provider in found.providers.keys() - known.keys():
        text += f"\n# {provider} is in OpenCode's configuration too, but names no model there: add it by hand.\n"
    return text


def write(path: Path, text: str) -> None:
    """Write the file, readable by its owner only. Raises `CommandError` where that cannot be done."""
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


def _entry(provider: str, priority: int, names: dict[str, str]) -> str:
    comment = "            # 1 is tried first; equal numbers share the load" if priority == 1 else ""
    limits = LIMITS if priority == 1 else "# hourly_limit = 50\n# daily_limit = 1000\n"
    head = f"\n[[provider]]\nid = {_quoted(provider)}\npriority = {priority}{comment}\n"
    if all(canonical == name for canonical, name in names.items()):
        return f"{head}models = [{', '.join(map(_quoted, names))}]\n{limits}"
    table = "".join(f"{_quoted(canonical)} = {_quoted(name)}\n" for canonical, name in names.items())
    return f"{head}{limits}[provider.models]         # the name here = this provider's own name\n{table}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
