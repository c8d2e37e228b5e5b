"""Puts the shim into OpenCode, finds it there, takes it out again.

Owns `plugins/rlmd.ts` and the folder `plugins/rlmd/` in OpenCode's global configuration directory, or in a
project's `.opencode/`, and the line of `tui.jsonc` that names the dialog. In a project, lines of
`.git/info/exclude` keep all that out of the repository. Every file says which version it is and which socket it
was written for, so that the shim derives nothing.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Literal, NamedTuple

import rlmd
from rlmctl.agents.opencode import dialog, exclusions, places, versions
from rlmctl.agents.opencode.programs import programs
from rlmd.address import check_socket

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rlmctl.agents.opencode.programs import Program
    from rlmctl.agents.opencode.versions import Form
    from rlmd.paths import Paths

State = Literal["current", "outdated", "edited"]


class Found(NamedTuple):
    """A shim in its place."""

    path: Path
    """Its entry."""
    version: str
    state: State
    """`outdated`: files of another version; `edited`: this version, and yet not what we would write."""
    socket: str
    """Where it looks for the daemon, unless RLMD_SOCKET says otherwise."""
    form: Form = "object"
    changed: tuple[Path, ...] = ()
    """The files that are not what this version would write, those that are missing included."""


def install(
    paths: Paths,
    *,
    project: Path | None = None,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """Put the shim into OpenCode, for all of a person's projects or for one.

    The programs that are here are asked for their version first: each version takes a form of its own. Returns what
    was done, as sentences. Raises `NotServedError` where no form serves them, `PathTooLongError` where no socket can
    have its path, and `OSError` where nothing can be written.
    """
    check_socket(paths.socket)
    here = programs(environ)
    form = versions.choose([program.version for program in here if program.version])
    home = places.home(project, environ)
    folder = home / places.FOLDERS[0]
    entry = folder / places.ENTRY
    if entry.exists() and places.stamp(entry) is None:
        return [f"{entry} is a plugin of another origin, so nothing was done."]
    wanted = {folder / name: text for name, text in places.texts(str(paths.socket), form).items()}
    lacking = [path for path, text in wanted.items() if not _is_as_wanted(path, text)]
    surplus = [path for place in places.folders(home) for path in places.ours(place) if path not in wanted]
    would = "would be " if dry_run else "was "
    how = "replaced" if entry.exists() or surplus else "written"
    done = [f"{entry} is up to date."]
    if lacking or surplus:
        done = [f"{entry} {would}{how}. OpenCode loads it at its next start."]
    if home.is_symlink() or folder.is_symlink():
        done.append(f"{home if home.is_symlink() else folder} is a link: the files are in {folder.resolve()}.")
    done += _of_what_is_not_known(here)
    if not dry_run:
        for path in lacking:  # the entry, which loads the others, comes last
            places.write(path, wanted[path])
        for path in surplus:
            places.remove(path, home)
    # A screen that loads plugins came with the form of an object.
    done += dialog.add(home, dry_run=dry_run) if form == "object" else dialog.drop(home, dry_run=dry_run)
    exclude = exclusions.find(project)
    if exclude and exclusions.add(exclude, dry_run=dry_run):
        done.append(f"It {would}excluded from git by lines in {exclude.file}.")
    return done


def _of_what_is_not_known(here: list[Program]) -> list[str]:
    """Say what the form was chosen without."""
    silent = [program.path for program in here if program.version is None]
    if here and not silent:
        return []
    why = f"{' and '.join(silent)} did not say which version it is" if silent else "No OpenCode is on this shell's PATH"
    known = "the others'" if len(silent) < len(here) else f"{versions.UNKNOWN.name} and newer"
    return [f"{why}. The form is that of {known}; once you have another version, do this again."]


def other_ways(environ: Mapping[str, str] = os.environ) -> str:
    """Say how the shim gets into an OpenCode whose configuration directory cannot be written, as lines of a mend."""
    usual = places.home(None, environ)
    elsewhere = usual.with_name(f"{usual.name}-rlmd")
    entry = elsewhere / places.FOLDERS[0] / places.ENTRY
    return (
        "\n        or have it in one project: rlmctl install opencode --project"
        f"\n        or, with OpenCode 1.x: OPENCODE_CONFIG_DIR={shlex.quote(str(elsewhere))} rlmctl install opencode"
        f'\n        and this line in your opencode.json: "plugin": [{json.dumps(entry.as_uri())}]'
    )


def uninstall(
    paths: Paths,  # noqa: ARG001  (the same call as install's: nothing outside OpenCode was written)
    *,
    project: Path | None = None,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """Take the shim out of OpenCode without a trace. Returns what was done, as sentences."""
    home = places.home(project, environ)
    would = "would be " if dry_run else "was "
    folders = places.folders(home)
    files = [path for folder in folders for path in places.ours(folder)]
    done = [
        f"{folder / places.ENTRY} {would}removed. An OpenCode that runs keeps it until it ends."
        for folder in folders
        if any(places.ours(folder))
    ]
    if not files:
        entry = folders[0] / places.ENTRY
        if entry.exists():
            return [f"{entry} is a plugin of another origin, so nothing was done."]
        done.append(f"There is no shim at {entry}.")
    done += dialog.drop(home, dry_run=dry_run)  # before the folders go in which it lies
    if not dry_run:
        for path in [*files, *(path for folder in folders for path in places.remains(folder))]:
            places.remove(path, home)
        for folder in folders:
            for within in sorted((folder / places.PARTS).glob("**/"), reverse=True):  # the inner ones first
                places.prune(within, home)
    exclude = exclusions.find(project)
    if exclude and exclusions.drop(exclude, dry_run=dry_run):
        done.append(f"Its lines in {exclude.file} {'would be' if dry_run else 'were'} removed.")
    return done


def inspect(*, project: Path | None = None, environ: Mapping[str, str] = os.environ) -> list[Found]:
    """Return the shims that OpenCode would load: the global ones, and those of `project` if given.

    More than one is one too many: OpenCode loads all of them.
    """
    folders = [folder for home in places.homes(project, environ) for folder in places.folders(home)]
    found = (_inspect(folder) for folder in folders)
    return [shim for shim in found if shim is not None]


def _inspect(folder: Path) -> Found | None:
    entry = folder / places.ENTRY
    said = places.stamp(entry)
    if said is None:
        return None
    version, socket = said
    form = places.form(entry)
    wanted = {folder / name: text for name, text in places.texts(socket, form).items()}
    present = places.ours(folder)
    changed = sorted({path for path, text in wanted.items() if places.read(path) != text} | {*present} - {*wanted})
    stamps = {stamp[0] for stamp in map(places.stamp, changed) if stamp}
    other = [stamp for stamp in stamps if stamp != rlmd.__version__]
    state: State = "outdated" if other else "edited" if changed else "current"
    return Found(entry, other[0] if other else version, state, socket, form, tuple(changed))


def _is_as_wanted(path: Path, text: str) -> bool:
    return places.read(path) == text and places.is_private(path)
