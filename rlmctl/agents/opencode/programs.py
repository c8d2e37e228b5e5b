"""The OpenCode programs of this machine, and which version each says it is."""

from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.agents.opencode import versions
from rlmctl.agents.opencode.configuration import opencode_programs

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 10.0  # seconds for `opencode --version`


class Program(NamedTuple):
    """One program that a person may start as OpenCode."""

    path: str
    version: versions.Version | None
    """None where it did not say."""


def programs(environ: Mapping[str, str]) -> list[Program]:
    """Return the programs that would read the same configuration; each is asked for its version."""
    return [Program(path, _version(path, environ)) for path in opencode_programs(environ)]


def _version(path: str, environ: Mapping[str, str]) -> versions.Version | None:
    with tempfile.TemporaryDirectory() as elsewhere:  # it makes its folders even to say its version
        folders = {f"XDG_{kind}_HOME": elsewhere for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        try:
            done = subprocess.run(  # noqa: S603  (the program that the person starts)
                [path, "--version"],
                env={**environ, **folders},
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
