"""What is to be said of OpenCode on this machine: its version, the shim in it, the plugin that the shim replaces."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from rlmctl.agents.opencode import dialog, places, predecessor, versions
from rlmctl.agents.opencode.configuration import opencode_is_here
from rlmctl.agents.opencode.install import Found, inspect
from rlmctl.agents.opencode.programs import Program, programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rlmctl.agents.opencode.versions import Version
    from rlmd.paths import Paths

INSTALL = "rlmctl install opencode"
SHIM_LOG = "shim.log"
"""The name of the file, beside the socket, in which the shim notes its own failures (debug.ts)."""


class Finding(NamedTuple):
    """One line of `rlmctl doctor`."""

    name: str
    state: Literal["ok", "warning", "wrong"]
    meaning: str
    mend: str = ""


def findings(paths: Paths, directory: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Say what a person who starts OpenCode in `directory` should know."""
    shims = inspect(project=directory, environ=environ)
    named = list(_named(shims, directory, environ))
    here = programs(environ)
    known = [program.version for program in here if program.version]
    if not opencode_is_here(environ):
        meaning = "is not on this shell's PATH, and nothing of it is in this home: nobody asks the daemon"
        yield Finding("OpenCode", "warning", meaning, "npm install -g opencode-ai")
    elif not shims and not named:
        yield Finding("OpenCode", "wrong", "has no shim, so it does not ask the daemon", INSTALL)
    for program in here:
        yield _version(program)
    for shim in shims:
        yield _misfit(shim, known, directory, environ) or _shim(shim, paths, directory, environ)
    yield from _too_many(shims, directory, environ)
    yield from named
    yield from _noted(paths)
    for trace in predecessor.traces(directory, environ):
        meaning = f"{predecessor.NAME} is still there ({trace.path}): two that switch disturb each other"
        yield Finding("old plugin", "warning", meaning, trace.mend)
    for state in predecessor.states(directory, environ):
        meaning = f"the limits of {predecessor.NAME} are in {state}"
        file = shlex.quote(str(state))
        yield Finding("old plugin", "warning", meaning, f"rlmctl import {file}, then: rm {file}")


def _version(program: Program) -> Finding:
    version, path = program.version, program.path
    if version is None:
        meaning = f"{path} named no version, so which form of the shim it loads is not known"
        return Finding("OpenCode", "warning", meaning, f"{shlex.quote(path)} --version")
    if versions.way(version) is None:
        return Finding("OpenCode", "wrong", f"{path}: {versions.too_old(version)}", versions.UPGRADE)
    return Finding("OpenCode", "ok", f"{path}: {versions.tried(version)}")


def _misfit(shim: Found, here: list[Version], directory: Path, environ: Mapping[str, str]) -> Finding | None:
    """Say where a shim has a form that not all versions load, or one that shows no dialog; None where it fits."""
    home = shim.path.parents[1]
    install = _command("install", home, directory, environ)
    rows = {version: versions.way(version) for version in here}
    missed = [version.name for version, row in rows.items() if row is None or shim.form not in row.forms]
    try:
        best = versions.choose(here)
    except versions.NotServedError as error:
        # Some of the oldest versions do not start where they find it.
        mend = f"{error.mend}; until then: {_command('uninstall', home, directory, environ)}"
        return Finding("shim", "wrong", f"{shim.path} is not loaded by OpenCode {', '.join(missed)}", mend)
    if missed:
        meaning = f"{shim.path} has a form that OpenCode {', '.join(missed)} does not load"
        return Finding("shim", "wrong", meaning, install)
    if here and shim.form != best:
        meaning = f"{shim.path} has the form for an older OpenCode: this one loads it, without its dialog"
        return Finding("shim", "warning", meaning, install)
    return None


def _shim(shim: Found, paths: Paths, directory: Path, environ: Mapping[str, str]) -> Finding:
    home = shim.path.parents[1]
    mend = _command("install", home, directory, environ)
    if shim.state == "outdated":
        return Finding("shim", "wrong", f"{shim.path} is of version {shim.version}", mend)
    if shim.socket != str(paths.socket):
        return Finding("shim", "wrong", f"{shim.path} looks for the daemon at {shim.socket}", mend)
    if shim.state == "edited":
        changed = ", ".join(str(path) for path in shim.changed)
        return Finding("shim", "warning", f"{shim.path} was edited by hand: {changed}", mend)
    if shim.form == "object" and not dialog.is_named(home):
        return Finding("shim", "warning", f"{shim.path} is up to date, but no tui.json there names its dialog", mend)
    return Finding("shim", "ok", f"{shim.path} is up to date")


def _command(verb: Literal["install", "uninstall"], home: Path, directory: Path, environ: Mapping[str, str]) -> str:
    """Return what does that in this very configuration directory of OpenCode."""
    command = f"rlmctl {verb} opencode"
    if home == places.home(None, environ):
        return command
    if home == directory / ".opencode":
        return f"{command} --project"
    if home.name == ".opencode":
        return f"cd {shlex.quote(str(home.parent))} && {command} --project"
    return f"env -u OPENCODE_CONFIG_DIR {command}"


def _too_many(shims: list[Found], directory: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Name those that could go: OpenCode loads all of them."""
    usual = places.home(None, environ)
    kept = next((shim for shim in shims if shim.path.parents[1] == usual), next(iter(shims), None))
    for shim in shims:
        home = shim.path.parents[1]
        if shim is kept or kept is None:
            continue
        mend = _command("install" if home == kept.path.parents[1] else "uninstall", home, directory, environ)
        yield Finding("shim", "warning", f"{shim.path} is one too many: OpenCode loads {kept.path} as well", mend)


def _noted(paths: Paths) -> Iterator[Finding]:
    """Point to what the shim has noted of itself: OpenCode hears nothing of such failures."""
    log = paths.socket.with_name(SHIM_LOG)
    if log.is_file():
        at = datetime.fromtimestamp(log.stat().st_mtime).astimezone()
        meaning = f"something went wrong inside the shim, last at {at:%Y-%m-%d %H:%M}; OpenCode went on without it"
        yield Finding(
            "shim", "warning", meaning, f"tell the project what is in {log}, then: rm {shlex.quote(str(log))}"
        )


def _named(shims: list[Found], directory: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Name the shims that a list of plugins has, which OpenCode loads from wherever they lie."""
    known = {shim.path.resolve() for shim in shims}
    for path, key, name in predecessor.listed(directory, places.homes(directory, environ), environ):
        file = path.parent / unquote(name.removeprefix("file://"))
        if places.stamp(file) and file.resolve() not in known:
            meaning = f"{file} is loaded because {path} names it, and no `{INSTALL}` keeps it up to date"
            yield Finding("shim", "warning", meaning, f'take "{name}" out of the list "{key}" there, then: {INSTALL}')
