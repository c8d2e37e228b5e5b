"""Puts the shim into OpenCode, finds it there, takes it out again.

Owns one file a place: `plugin/rlmd.ts` in OpenCode's global configuration directory, or in a project's
`.opencode/`, which one line of `.git/info/exclude` keeps out of the repository. The file says which version it
is and holds the socket's path as the installer resolved it, so that the shim derives nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import rlmd
from rlmctl.discovery import opencode_directory
from rlmd.paths import check_socket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlmd.paths import Paths

NAME = "rlmd.ts"
SOURCE = Path(__file__).with_name(NAME)
VERSION = re.compile(r'^const VERSION: string = (".*")$', re.MULTILINE)
SOCKET = re.compile(r'^const SOCKET: string = process\.env\.RLMD_SOCKET \|\| (".*")$', re.MULTILINE)

State = Literal["current", "outdated", "edited"]


class Found(NamedTuple):
    """A shim in its place."""

    path: Path
    version: str
    state: State
    """`outdated`: another version; `edited`: this version, and yet not what we would write."""
    socket: str
    """Where it looks for the daemon, unless RLMD_SOCKET says otherwise."""


def install(
    paths: Paths,
    *,
    project: Path | None = None,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """Put the shim into OpenCode, for all of a person's projects or for one.

    Returns what was done, as sentences. Raises `PathTooLongError` where no socket can have its path, and
    `OSError` where nothing can be written.
    """
    check_socket(paths.socket)
    target = _target(project, environ)
    wanted = _render(SOURCE.read_text(encoding="utf-8"), rlmd.__version__, str(paths.socket))
    present = _read(target)
    would = "would be " if dry_run else "was "
    if present is not None and VERSION.search(present) is None:
        return [f"{target} is a plugin of another origin, so nothing was done."]
    if present == wanted:
        done = [f"{target} is up to date."]
    else:
        if not dry_run:
            _write(target, wanted)
        how = "written" if present is None else "replaced"
        done = [f"{target} {would}{how}. OpenCode loads it at its next start."]
    exclude = _exclude_file(project)
    if exclude and exclude[1] not in _lines(exclude[0]):
        if not dry_run:
            _change_lines(exclude[0], add=exclude[1])
        done.append(f"It {would}excluded from git by a line in {exclude[0]}.")
    return done


def uninstall(
    paths: Paths,  # noqa: ARG001  (the same call as install's: nothing outside OpenCode was written)
    *,
    project: Path | None = None,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """Take the shim out of OpenCode without a trace. Returns what was done, as sentences."""
    target = _target(project, environ)
    present = _read(target)
    would = "would be " if dry_run else "was "
    done = []
    if present is None:
        done.append(f"There is no shim at {target}.")
    elif VERSION.search(present) is None:
        return [f"{target} is a plugin of another origin, so nothing was done."]
    else:
        if not dry_run:
            target.unlink()
            _remove_if_empty(target.parent, target.parent.parent)
        done.append(f"{target} {would}removed. An OpenCode that runs keeps it until it ends.")
    exclude = _exclude_file(project)
    if exclude and exclude[1] in _lines(exclude[0]):
        if not dry_run:
            _change_lines(exclude[0], drop=exclude[1])
        done.append(f"Its line in {exclude[0]} {would}removed.")
    return done


def inspect(*, project: Path | None = None, environ: Mapping[str, str] = os.environ) -> list[Found]:
    """Return the shims that OpenCode would load: the global one, and the one of `project` if given."""
    places = [None] if project is None else [None, project]
    found = (_inspect(_target(place, environ)) for place in places)
    return [shim for shim in found if shim is not None]


def _inspect(target: Path) -> Found | None:
    present = _read(target) or ""
    version, socket = VERSION.search(present), SOCKET.search(present)
    if version is None or socket is None:
        return None
    said_version, said_socket = (str(json.loads(match[1])) for match in (version, socket))
    state: State = "current"
    if said_version != rlmd.__version__:
        state = "outdated"
    elif present != _render(SOURCE.read_text(encoding="utf-8"), said_version, said_socket):
        state = "edited"
    return Found(target, said_version, state, said_socket)


def _target(project: Path | None, environ: Mapping[str, str]) -> Path:
    if project is not None:
        return project / ".opencode" / "plugin" / NAME
    chosen = environ.get("OPENCODE_CONFIG_DIR")
    return (Path(chosen) if chosen else opencode_directory(environ)) / "plugin" / NAME


def _render(source: str, version: str, socket: str) -> str:
    """Return the shim with both lines filled in. A JSON string is a TypeScript string."""
    for line, value in ((VERSION, version), (SOCKET, socket)):
        match = line.search(source)
        if match is None:
            raise AssertionError(f"{SOURCE} has no line like {line.pattern}")
        source = source[: match.start(1)] + json.dumps(value) + source[match.end(1) :]
    return source


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _remove_if_empty(*directories: Path) -> None:
    for directory in directories:
        if any(directory.iterdir()):
            return
        directory.rmdir()


def _exclude_file(project: Path | None) -> tuple[Path, str] | None:
    """Return git's file of private exclusions and our line in it, where `project` lies in a repository."""
    if project is None:
        return None
    question = ["git", "rev-parse", "--show-prefix", "--git-path", "info/exclude"]
    try:
        answer = subprocess.run(question, cwd=project, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    prefix, file = answer.stdout.splitlines()
    return project / file, f"/{prefix}.opencode/plugin/{NAME}"


def _lines(file: Path) -> list[str]:
    return (_read(file) or "").splitlines()


def _change_lines(file: Path, *, add: str | None = None, drop: str | None = None) -> None:
    lines = [line for line in _lines(file) if line != drop] + ([add] if add else [])
    file.parent.mkdir(exist_ok=True)
    if lines:
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        file.unlink()
        _remove_if_empty(file.parent)
