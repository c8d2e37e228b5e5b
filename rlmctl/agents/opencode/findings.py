"""What is to be said of OpenCode on this machine: its version, the shim in it, the plugin that the shim replaces."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from rlmctl.agents.opencode import dialog, places, predecessor
from rlmctl.agents.opencode.configuration import opencode_is_here
from rlmctl.agents.opencode.install import Found, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rlmd.paths import Paths

TRIED = "1.18.33"
"""The version that the end-to-end tests drive."""
NEEDED = (1, 18, 29)
"""The first version that loads a plugin in the shim's form."""
PATIENCE = 5.0  # seconds for `opencode --version`
INSTALL = "rlmctl install opencode"


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
    if not opencode_is_here(environ):
        yield Finding("OpenCode", "warning", "is not here, so nobody asks the daemon", "npm install -g opencode-ai")
    elif not shims and not named:
        yield Finding("OpenCode", "wrong", "has no shim, so it does not ask the daemon", INSTALL)
    yield from _version(environ)
    for shim in shims:
        yield _shim(shim, paths, directory, environ)
    yield from _too_many(shims, directory, environ)
    yield from named
    for trace in predecessor.traces(directory, environ):
        meaning = f"{predecessor.NAME} is still there ({trace.path}): two that switch disturb each other"
        yield Finding("old plugin", "warning", meaning, trace.mend)
    for state in predecessor.states(directory, environ):
        meaning = f"the limits of {predecessor.NAME} are in {state}"
        file = shlex.quote(str(state))
        yield Finding("old plugin", "warning", meaning, f"rlmctl import {file}, then: rm {file}")


def _version(environ: Mapping[str, str]) -> Iterator[Finding]:
    said = version(environ)
    if said is None:
        return
    name = ".".join(map(str, said))
    if said < NEEDED:
        needed = ".".join(map(str, NEEDED))
        yield Finding("OpenCode", "wrong", f"{name} does not load the shim: {needed} is needed", "opencode upgrade")
    elif name == TRIED:
        yield Finding("OpenCode", "ok", f"{name}, which the shim was tried with")
    else:
        yield Finding("OpenCode", "ok", f"{name}; the shim was tried with {TRIED}")


def version(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the version of the OpenCode that would be started; None where there is none, or it does not say."""
    program = environ.get("OPENCODE_BIN") or shutil.which("opencode", path=environ.get("PATH"))
    if not program:
        return None
    with tempfile.TemporaryDirectory() as elsewhere:  # it makes its folders even to say its version
        folders = {f"XDG_{kind}_HOME": elsewhere for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        try:
            done = subprocess.run(  # noqa: S603  (the program that the person starts)
                [program, "--version"],
                env={**environ, **folders},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else None


def _shim(shim: Found, paths: Paths, directory: Path, environ: Mapping[str, str]) -> Finding:
    home = shim.path.parents[1]
    mend = _command("install", home, directory, environ)
    if shim.state == "outdated":
        return Finding("shim", "wrong", f"{shim.path} is of version {shim.version}", mend)
    if shim.socket != str(paths.socket):
        return Finding("shim", "wrong", f"{shim.path} looks for the daemon at {shim.socket}", mend)
    if shim.path.parent.name != places.FOLDERS[0]:
        return Finding("shim", "warning", f"{shim.path} is not seen by OpenCode 2: its place is plugins/", mend)
    if shim.state == "edited":
        changed = ", ".join(str(path) for path in shim.changed)
        return Finding("shim", "warning", f"{shim.path} was edited by hand: {changed}", mend)
    if not dialog.is_named(home):
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
    """Name those that could go: OpenCode loads all, and the last one serves."""
    usual = places.home(None, environ)
    kept = next((shim for shim in shims if shim.path.parents[1] == usual), next(iter(shims), None))
    for shim in shims:
        home = shim.path.parents[1]
        if shim is kept or kept is None:
            continue
        mend = _command("install" if home == kept.path.parents[1] else "uninstall", home, directory, environ)
        yield Finding("shim", "warning", f"{shim.path} is one too many: OpenCode loads {kept.path} as well", mend)


def _named(shims: list[Found], directory: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Name the shims that a list of plugins has, which OpenCode loads from wherever they lie."""
    known = {shim.path.resolve() for shim in shims}
    for path, key, name in predecessor.listed(directory, places.homes(directory, environ), environ):
        file = path.parent / unquote(name.removeprefix("file://"))
        if places.stamp(file) and file.resolve() not in known:
            meaning = f"{file} is loaded because {path} names it, and no `{INSTALL}` keeps it up to date"
            yield Finding("shim", "warning", meaning, f'take "{name}" out of the list "{key}" there, then: {INSTALL}')
