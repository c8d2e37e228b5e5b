"""Where OpenCode reads plugins and configuration, and where in that the shim lies.

Owns the places, the text that belongs in each file, and writing and removing such a file. Knows no command.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import rlmd
from rlmctl.agents.opencode.configuration import opencode_directory, within_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlmctl.agents.opencode.versions import Form

ENTRY = "rlmd.ts"
PARTS = "rlmd"
"""The folder beside the entry: OpenCode takes every file beside it for a plugin, and none within a folder."""
SOURCE = Path(__file__).with_name(ENTRY)
SOURCES: dict[Form, Path] = {"object": SOURCE, "function": SOURCE.with_name("rlmd-function.ts")}
"""Sources of the entry: each is written as `ENTRY`."""
FOLDERS = ("plugins", "plugin")
"""OpenCode reads both, from 1.1.11 on; the shim goes into the first one."""
_IS_OBJECT = re.compile(r"^export default \{", re.MULTILINE)
STAMP = re.compile(r'^// rlmd "(.*)" for (".*"), placed by|^const VERSION: string = "(.*)"$', re.MULTILINE)
"""The first line of every file of ours; the second form is that of shims before there was one."""
PRIVATE = 0o600


def home(project: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration directory that gets the shim: a project's, or the one for all of a person's."""
    if project is not None:
        return project / ".opencode"
    chosen = environ.get("OPENCODE_CONFIG_DIR")
    return Path(chosen) if chosen else opencode_directory(environ)


def homes(directory: Path | None, environ: Mapping[str, str]) -> list[Path]:
    """Return the directories that OpenCode started in `directory` reads plugins from, whether they exist or not."""
    found = [opencode_directory(environ)]
    if directory is not None:
        found += [place / ".opencode" for place in within_project(directory)]
    found.append(Path(environ["HOME"] if environ.get("HOME") else Path.home()) / ".opencode")
    if environ.get("OPENCODE_CONFIG_DIR"):
        found.append(Path(environ["OPENCODE_CONFIG_DIR"]))
    return _distinct(found)


def folders(home: Path) -> list[Path]:
    """Return the folders of plugins in a configuration directory, the one that gets the shim first."""
    return _distinct([home / name for name in FOLDERS])


def _distinct(paths: list[Path]) -> list[Path]:
    """Leave out what is another name of one before."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return [*found.values()]


def texts(socket: str, form: Form) -> dict[str, str]:
    """Return what is to be in each file, by its path from the folder of plugins; the entry comes last."""
    parts = sorted(SOURCE.parent.glob(f"{PARTS}/**/*.ts"))
    found = {str(file.relative_to(SOURCE.parent)): _render(file, socket) for file in parts}
    return {**found, ENTRY: _render(SOURCES[form], socket)}


def form(entry: Path) -> Form:
    """Return the form of an entry of ours, which is known by what it exports."""
    return "object" if _IS_OBJECT.search(read(entry) or "") else "function"


def _render(file: Path, socket: str) -> str:
    # A JSON string is a TypeScript string.
    version, quoted = json.dumps(rlmd.__version__), json.dumps(socket)
    stamp = f"// rlmd {version} for {quoted}, placed by `rlmctl install opencode`: an edit is lost at the next one.\n"
    text = file.read_text(encoding="utf-8")
    for mark, value in (("@VERSION@", version), ("@SOCKET@", quoted), ("@PYTHON@", json.dumps(sys.executable))):
        text = text.replace(f'"{mark}"', value)
    return stamp + text


def stamp(path: Path) -> tuple[str, str] | None:
    """Return the version and the socket that a file of ours names; None for any other file, or none at all.

    An entry whose first line somebody took off is known by the parts that it loads, and has their stamp.
    """
    text = read(path) or ""
    match = STAMP.search(text)
    if match is None:
        is_ours = path.name == ENTRY and f'"./{PARTS}/v1/plugin.ts"' in text
        loaded = (path.parent / PARTS).glob("**/*.ts") if is_ours else ()
        return next(filter(None, map(stamp, sorted(loaded))), None)
    try:
        socket = str(json.loads(match[2] or '""'))
    except ValueError:  # edited by hand
        socket = match[2]
    return match[1] or match[3], socket


def ours(folder: Path) -> Iterator[Path]:
    """Give the files of ours in a folder of plugins, the entry first."""
    has_entry = stamp(folder / ENTRY) is not None
    if has_entry:
        yield folder / ENTRY
    for path in sorted((folder / PARTS).glob("**/*.ts")):
        if stamp(path) is not None or (has_entry and (SOURCE.parent / path.relative_to(folder)).exists()):
            yield path


def read(path: Path) -> str | None:
    """Return what is in a file, as it stands; None where there is no file, none to be read, or it holds no text."""
    try:
        return path.read_bytes().decode()
    except (OSError, ValueError):
        return None


def write(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # a full disk names no file
            error.filename = str(path)
        Path(name).unlink()
        raise


def is_private(path: Path) -> bool:
    """Return whether nobody but its owner can read or write this file."""
    return path.stat().st_mode & 0o777 == PRIVATE


def remains(folder: Path) -> list[Path]:
    """Return what a write into a folder of plugins has left there that was killed on its way."""
    return [*folder.glob(f".{ENTRY}.*"), *(folder / PARTS).glob("**/.*.ts.*"), *folder.parent.glob(".tui.json*.*")]


def remove(path: Path, home: Path) -> None:
    """Remove a file, and the folders that held nothing else, from its own up to `home`."""
    path.unlink()
    prune(path.parent, home)


def prune(folder: Path, home: Path) -> None:
    """Remove a folder if it is empty, and then those above it that are, up to `home`."""
    while folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
        if folder == home:
            return
        folder = folder.parent
