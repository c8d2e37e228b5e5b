"""Keeps a project's copy of the shim out of its repository, by lines in git's own file of private exclusions.

Owns those lines, and nothing else in that file: the rest stays as it is, byte by byte.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.agents.opencode import dialog, places

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECIAL = re.compile(r"[\\*?\[]")


class Exclusions(NamedTuple):
    """Where the lines about a project's `.opencode/` are."""

    file: Path
    project: Path
    within: str
    """The way to the project from the root of its work tree: empty, or it ends with a slash."""


def find(project: Path | None) -> Exclusions | None:
    """Return where the exclusions of `project` are; None where it lies in no repository."""
    answer = _git(project, "rev-parse", "--show-prefix", "--git-path", "info/exclude") if project else None
    if project is None or answer is None:
        return None
    within, file, _ = answer.split("\n")
    return Exclusions(project / file, project, within)


def add(to: Exclusions, *, dry_run: bool) -> bool:
    """Put our lines at the end; one that is there already keeps its place. Returns whether any was missing."""
    wanted = [f"{_prefix(to)}{places.FOLDERS[0]}/{name}" for name in (places.ENTRY, f"{places.PARTS}/")]
    wanted += [f"{_prefix(to)}{name}" for name in dialog.own_files(to.project / ".opencode")]
    before = _lines(to.file)
    lines = [line for line in before if line in wanted or line not in _all_ours(to)]
    end = len(lines) - (lines[-1] == "")  # a file that ends within a line still does afterwards
    lines[end:end] = [line for line in wanted if line not in lines]
    return _write(to.file, before, lines, dry_run=dry_run)


def drop(of: Exclusions, *, dry_run: bool) -> bool:
    """Take our lines out, unless another work tree needs them. Returns whether there were any."""
    if any(_other_copies(of)):
        return False
    before = _lines(of.file)
    return _write(of.file, before, [line for line in before if line not in _all_ours(of)], dry_run=dry_run)


def _prefix(of: Exclusions) -> str:
    return f"/{_SPECIAL.sub(lambda found: chr(92) + found[0], of.within)}.opencode/"


def _all_ours(of: Exclusions) -> list[str]:
    names = [f"{folder}/{name}" for folder in places.FOLDERS for name in (places.ENTRY, f"{places.PARTS}/")]
    return [f"{_prefix(of)}{name}" for name in (*names, *dialog.NAMES)]


def _other_copies(of: Exclusions) -> Iterator[Path]:
    """Give the shims at the same place in other work trees of the repository: all share its exclusions."""
    for line in (_git(of.project, "worktree", "list", "--porcelain") or "").split("\n"):
        word, _, tree = line.partition(" ")
        home = Path(tree, of.within, ".opencode")
        if word == "worktree" and home.resolve() != (of.project / ".opencode").resolve():
            for folder in places.folders(home):
                yield from places.ours(folder)


def _git(directory: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=directory, capture_output=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="surrogateescape")


def _lines(file: Path) -> list[str]:
    """Return what stands between the line feeds of a file, whatever its encoding; the last is empty after one."""
    try:
        return file.read_bytes().decode(errors="surrogateescape").split("\n")
    except FileNotFoundError:
        return [""]


def _write(file: Path, before: list[str], lines: list[str], *, dry_run: bool) -> bool:
    if lines == before:
        return False
    if not dry_run:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
        if lines == [""]:
            places.remove(file, file.parent)
    return True
