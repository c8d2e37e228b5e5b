"""Whether configuration, state directory, socket and disk are as they should be, daemon or not."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rlmd.paths import Paths

DIRECTORY, FILE, OTHERS_WRITE = 0o700, 0o600, 0o022
LOW = 64 * 2**20
"""Bytes: the database's log, what a checkpoint copies and a rotated log take about half of it."""


def configuration(paths: Paths) -> Iterator[Check]:
    """Check the file, and whether somebody could stand in for whoever serves a model."""
    from rlmctl.insight import stand_ins
    from rlmd.config.policy import ConfigError, MissingConfigError, load

    name = "configuration"
    try:
        config = load(paths.config)
    except MissingConfigError:
        yield Check(name, "wrong", f"there is none at {paths.config}: nothing is routed", "rlmctl setup")
    except ConfigError as error:
        yield Check(name, "wrong", str(error), f"edit {paths.config}, then: rlmctl reload")
    else:
        providers = ", ".join(provider.id for provider in config.policy.providers)
        yield Check(name, "ok", f"{paths.config}: {providers or 'no providers'}")
        for warning in config.warnings:
            yield Check(name, "warning", warning)
        for line in stand_ins.lines(config.policy):
            yield Check("stand-ins", "ok" if line.fine else "warning", line.text, line.mend)


def directory(paths: Paths) -> Iterator[Check]:
    """Check the state directory."""
    name = "state directory"
    try:
        found = paths.state_dir.stat()
    except FileNotFoundError:
        yield Check(name, "warning", f"{paths.state_dir} is not there: no daemon ran yet", "rlmctl start")
        return
    except OSError as error:
        yield Check(name, "wrong", f"{paths.state_dir}: {error.strerror}", _elsewhere("RLMD_STATE_DIR"))
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Check(name, "wrong", f"{paths.state_dir} is no directory", _elsewhere("RLMD_STATE_DIR"))
    elif found.st_uid != os.geteuid():
        yield Check(name, "wrong", f"{paths.state_dir} belongs to another user", _elsewhere("RLMD_STATE_DIR"))
    elif stat.S_IMODE(found.st_mode) != DIRECTORY:
        yield _open_to_others(name, paths.state_dir, found.st_mode, DIRECTORY)
    else:
        yield Check(name, "ok", f"{paths.state_dir} is open to you alone")


def socket(paths: Paths) -> Iterator[Check]:
    """Check who may come to the socket."""
    name, holding = "socket", paths.socket.parent
    try:
        above, found = holding.stat(), paths.socket.lstat()
    except (FileNotFoundError, PermissionError):
        return  # there is no daemon, or no way to it: the checks before and after say so
    except OSError as error:
        yield Check(name, "wrong", f"{paths.socket}: {error.strerror}", _elsewhere("RLMD_SOCKET"))
        return
    if not stat.S_ISSOCK(found.st_mode):
        yield Check(name, "wrong", f"{paths.socket} is no socket", _elsewhere("RLMD_SOCKET"))
    elif stat.S_IMODE(found.st_mode) != FILE:
        yield _open_to_others(name, paths.socket, found.st_mode, FILE)
    elif holding != paths.state_dir and above.st_mode & OTHERS_WRITE:
        yield _open_to_others(name, holding, above.st_mode, DIRECTORY)
    else:
        yield Check(name, "ok", f"{paths.socket} is open to you alone")


def files(paths: Paths) -> Iterator[Check]:
    """Check who may read the database."""
    try:
        mode = paths.database.stat().st_mode
    except OSError:
        return  # it is not there yet
    if stat.S_IMODE(mode) & ~FILE:
        yield _open_to_others("database", paths.database, mode, FILE)


def disk(paths: Paths) -> Iterator[Check]:
    """Check the room that is left where the state is."""
    try:
        free = shutil.disk_usage(paths.state_dir).free
    except OSError:
        return  # there is no such directory yet, or no way to it: another check says so
    room = f"{free / 2**20:,.0f} MiB are free where {paths.state_dir} is"
    if free < LOW:
        mend = f"free some space there (du -xh --max-depth=1 {paths.state_dir}), or set RLMD_STATE_DIR to another disk"
        yield Check("disk space", "wrong", f"{room}: reports may soon not be kept", mend)
    else:
        yield Check("disk space", "ok", room)


def _open_to_others(name: str, path: Path, mode: int, wanted: int) -> Check:
    return Check(name, "wrong", f"{path} has mode {stat.S_IMODE(mode):04o}", f"chmod {wanted:o} {path}")


def _elsewhere(variable: str) -> str:
    return f"set {variable} to a place of your own, for the daemon and the agent alike"
