"""Finds the plugin that this project replaces, `rate-limit-manager`, and the limits it kept.

Reads names and places only. Removes nothing: what mends it is said in words, or as a command.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.agents.opencode import places
from rlmctl.agents.opencode.configuration import configuration_files, parse_jsonc, within_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME = "rate-limit-manager"
STATE = "rate-limit-state.json"
CONFIGURATIONS = ("opencode.json", "opencode.jsonc")


class Trace(NamedTuple):
    """One place where that plugin still is."""

    path: Path
    mend: str
    """The command, or the words, that take it out."""


def traces(directory: Path, environ: Mapping[str, str] = os.environ) -> list[Trace]:
    """Return the places from which OpenCode started in `directory` would load that plugin."""
    homes = places.homes(directory, environ)
    found = [*_files(homes), *_entries(directory, homes, environ), *_packages(directory, homes)]
    return list(dict.fromkeys(found))


def states(directory: Path, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the files in which that plugin kept its limits, for `rlmctl import`."""
    homes = [*places.homes(directory, environ), *within_project(directory)]
    return [path for path in dict.fromkeys(home / STATE for home in homes) if os.path.isfile(path)]  # noqa: PTH113  (which fails where one may not look)


def offers(directory: Path, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return what a person who comes from that plugin should do, as sentences; nothing for anyone else."""
    said = [
        f"{NAME} is still there. Two that switch disturb each other: {one.mend}" for one in traces(directory, environ)
    ]
    return said + [
        f"{NAME} kept its limits in {path}. To take them over: rlmctl import {shlex.quote(str(path))}"
        for path in states(directory, environ)
    ]


def _files(homes: list[Path]) -> Iterator[Trace]:
    for home in homes:
        for folder in places.folders(home):
            with suppress(PermissionError):  # OpenCode cannot look there either
                for path in sorted(folder.glob(f"*{NAME}*")):
                    yield Trace(path, f"rm {'-r ' if path.is_dir() else ''}{shlex.quote(str(path))}")


def _entries(directory: Path, homes: list[Path], environ: Mapping[str, str]) -> Iterator[Trace]:
    for path, key, name in listed(directory, homes, environ):
        if NAME in name:
            yield Trace(path, f'take "{name}" out of the list "{key}" in {path}')


def listed(directory: Path, homes: list[Path], environ: Mapping[str, str]) -> Iterator[tuple[Path, str, str]]:
    """Give what is in the lists of plugins, `plugin` for OpenCode 1.x and `plugins` for 2.x: file, list, name."""
    files = [*configuration_files(directory, environ), *(home / name for home in homes for name in CONFIGURATIONS)]
    for path in dict.fromkeys(files):
        settings = _object(path)
        for key in ("plugin", "plugins"):
            found = settings.get(key)
            for name in filter(None, map(_name, found if isinstance(found, list) else [])):
                yield path, key, name


def _name(entry: object) -> str:
    """Return a plugin's name or address, whichever of its forms the entry has."""
    match entry:
        case str(name) | [str(name), *_] | {"package": str(name)}:
            return name
    return ""


def _packages(directory: Path, homes: list[Path]) -> Iterator[Trace]:
    for home in dict.fromkeys([*homes, *within_project(directory)]):
        path = home / "package.json"
        package = _object(path)
        for kind in ("dependencies", "devDependencies"):
            listed = package.get(kind)
            for name in listed if isinstance(listed, dict) else ():
                if name.rpartition("/")[2].removeprefix("opencode-") == NAME:
                    yield Trace(path, f"npm uninstall --prefix {shlex.quote(str(home))} {name}")


def _object(path: Path) -> dict[str, object]:
    try:
        return parse_jsonc(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
