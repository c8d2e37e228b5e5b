"""The OpenCode programs of this machine, and which version each is."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.agents.opencode import versions
from rlmctl.agents.opencode.configuration import opencode_programs

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 60.0
"""Seconds for `opencode --version`: it takes two of a fast processor's."""
QUIET = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
"""Without these some versions ask another machine before they say their version."""


class Program(NamedTuple):
    """One program that a person may start as OpenCode."""

    path: str
    version: versions.Version | None
    """None where it did not say."""


def programs(environ: Mapping[str, str]) -> list[Program]:
    """Return the programs that would read the same configuration, each with its version."""
    return [Program(path, _packaged(path) or _said(path, environ)) for path in opencode_programs(environ)]


def _packaged(path: str) -> versions.Version | None:
    """Return the version of the npm package that a program belongs to: to read that starts no process."""
    try:
        package = json.loads((Path(path).resolve().parents[1] / "package.json").read_text("utf-8"))
    except (OSError, ValueError, IndexError):
        return None
    if not isinstance(package, dict) or not str(package.get("name")).startswith(("opencode-", "@opencode/")):
        return None
    return versions.parse(str(package.get("version")))


def _said(path: str, environ: Mapping[str, str]) -> versions.Version | None:
    """Return the version that a program says it is."""
    with tempfile.TemporaryDirectory() as elsewhere:  # it makes its folders even to say its version
        folders = {f"XDG_{kind}_HOME": elsewhere for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        try:
            done = subprocess.run(  # noqa: S603  (the program that the person starts)
                [path, "--version"],
                env={**environ, **QUIET, **folders},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    return versions.parse(done.stdout)
