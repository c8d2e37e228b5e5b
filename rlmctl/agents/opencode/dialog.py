"""Names the dialog of the shim to OpenCode's screen, which loads plugins from its configuration alone.

Owns one line of one file: `tui.jsonc` in OpenCode's configuration directory, or `tui.json` where a person already
has the other. OpenCode joins the two, so no file of a person's own is changed, unless both are there.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from rlmctl.agents.opencode import places
from rlmctl.agents.opencode.configuration import parse_jsonc

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("tui.jsonc", "tui.json")
SPEC = f"./{places.FOLDERS[0]}/{places.PARTS}/tui.ts"
TEXT = f'{{ "plugin": ["{SPEC}"] }}\n'
_NAME = re.escape(f'"{SPEC}"')
_ENTRIES = [re.compile(form, re.DOTALL) for form in (rf"{_NAME}(?:\s|/\*.*?\*/)*,\s*", rf",?\s*{_NAME}")]
"""The name in a list with what goes with it, the best of these first."""


def add(home: Path, *, dry_run: bool) -> list[str]:
    """Name the dialog in a file of our own. Returns what was done, as sentences.

    Where it is named, the server's own command of that name is not offered on the screen. So it must not be named for
    an OpenCode whose screen loads no plugins.
    """
    if is_named(home):
        return []
    free = [name for name in NAMES if not os.path.lexists(home / name)]
    if not free:
        return [f'For the dialog of /rate_limit_status add "{SPEC}" to the list "plugin" in {home / NAMES[1]}.']
    if not dry_run:
        places.write(home / free[0], TEXT)
    return [f"{home / free[0]} {'would be' if dry_run else 'was'} written: it names the dialog of /rate_limit_status."]


def drop(home: Path, *, dry_run: bool) -> list[str]:
    """Take the dialog's name out again, and with it the file if it holds nothing else."""
    done = []
    would = "would be" if dry_run else "was"
    for path in (home / name for name in NAMES if _names_it(home / name)):
        text = places.read(path) or ""
        rest = _without_it(text)
        if _plugins(text) == [SPEC] and len(parse_jsonc(text)) == 1:
            done.append(f"{path} {would} removed.")
            if not dry_run:
                places.remove(path, home)
        elif rest is not None:
            done.append(f"{path} {would} relieved of the dialog.")
            if not dry_run:
                path.write_bytes(rest.encode())
        else:
            done.append(f'Take "{SPEC}" out of the list "plugin" in {path}: the dialog is gone.')
    return done


def own_files(home: Path) -> list[str]:
    """Return the names of the files in `home` that are ours as a whole."""
    return [name for name in NAMES if places.read(home / name) == TEXT]


def is_named(home: Path) -> bool:
    """Return whether OpenCode's screen would load the dialog from this configuration directory."""
    return any(_names_it(home / name) for name in NAMES)


def _names_it(path: Path) -> bool:
    text = places.read(path)
    return text is not None and SPEC in _plugins(text)


def _without_it(text: str) -> str | None:
    """Return the text with the dialog out of its list and all else as it was; None where that fails."""
    listed = _plugins(text)
    if SPEC not in listed:
        return text
    for found in (found for form in _ENTRIES for found in form.finditer(text)):  # the same words may stand in a comment
        rest = text[: found.start()] + text[found.end() :]
        if len(_plugins(rest)) == len(listed) - 1 and _is_object(rest):
            return _without_it(rest)
    return None


def _is_object(text: str) -> bool:
    try:
        return bool(parse_jsonc(text))
    except ValueError:
        return False


def _plugins(text: str) -> list[str]:
    try:
        named = parse_jsonc(text).get("plugin")
    except ValueError:
        return []
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
