"""Names the dialog of the shim to OpenCode's screen, which loads plugins from its configuration alone.

Owns one line of one file: `tui.jsonc` in OpenCode's configuration directory, or `tui.json` where a person already
has the other. OpenCode joins the two, so no file of a person's own is changed, unless both are there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rlmctl.agents.opencode import places
from rlmctl.discovery import parse_jsonc

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("tui.jsonc", "tui.json")
SPEC = f"./{places.FOLDERS[0]}/{places.PARTS}/tui.ts"
TEXT = f'{{ "plugin": ["{SPEC}"] }}\n'
_ENTRY = re.compile(rf'"{re.escape(SPEC)}"\s*,\s*|,?\s*"{re.escape(SPEC)}"')


def add(home: Path, *, dry_run: bool) -> list[str]:
    """Name the dialog in a file of our own. Returns what was done, as sentences."""
    if is_named(home):
        return []
    free = [name for name in NAMES if not (home / name).exists()]
    if not free:
        return [f'For the dialog of /rate_limit_status add "{SPEC}" to the list "plugin" in {home / NAMES[1]}.']
    if not dry_run:
        places.write(home / free[0], TEXT)
    return [f"{home / free[0]} {'would be' if dry_run else 'was'} written: it names the dialog of /rate_limit_status."]


def drop(home: Path, *, dry_run: bool) -> list[str]:
    """Take the dialog's name out again, and with it the file if it holds nothing else."""
    done = []
    for path in (home / name for name in NAMES if _names_it(home / name)):
        text = places.read(path) or ""
        rest = _ENTRY.sub("", text, count=1)
        empty = _plugins(text) == [SPEC] and len(parse_jsonc(text)) == 1
        if not dry_run:
            if empty:
                places.remove(path, home)
            else:
                path.write_text(rest, encoding="utf-8")
        done.append(f"{path} {'would be' if dry_run else 'was'} {'removed' if empty else 'relieved of the dialog'}.")
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


def _plugins(text: str) -> list[str]:
    try:
        named = parse_jsonc(text).get("plugin")
    except ValueError:
        return []
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
