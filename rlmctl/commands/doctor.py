"""The command that checks everything a person would have to: one line each, and the command that mends it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmctl.client import DaemonUnreachableError
from rlmctl.commands import FAILED, FINE, CommandError, add_json, connect, places, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from rlmd.paths import Paths

DIRECTORY, FILE, OTHERS_WRITE = 0o700, 0o600, 0o022


class Check(NamedTuple):
    """One line: what was looked at, `ok`, `warning` or `wrong`, what that means, what mends it."""

    name: str
    state: str
    meaning: str
    mend: str = ""


def add_doctor(parser: ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    add_json(parser, "print the checks as JSON")
    parser.epilog = "The exit code is 1 if anything is wrong; a warning (!) is not."


def doctor(args: Namespace) -> int:
    """Check everything."""
    paths = places()
    from rlmctl.commands.service_checks import service

    before = [*_configuration(paths), *_directory(paths), *_socket(paths), *service(paths)]
    checks = [*before, *_daemon(paths), *_agent(paths), *_zone()]
    fine = all(check.state != "wrong" for check in checks)
    if args.json:
        print_json({"ok": fine, "checks": [check._asdict() for check in checks]})
    else:
        from rlmctl.render import show_checks

        show_checks(checks)
    return FINE if fine else FAILED


def _configuration(paths: Paths) -> Iterator[Check]:
    from rlmd.config import ConfigError, MissingConfigError, load

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


def _directory(paths: Paths) -> Iterator[Check]:
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


def _socket(paths: Paths) -> Iterator[Check]:
    name = "socket"
    directory = paths.socket.parent
    try:
        above, found = directory.stat(), paths.socket.lstat()
    except (FileNotFoundError, PermissionError):
        return  # there is no daemon, or no way to it: the checks before and after say so
    except OSError as error:
        yield Check(name, "wrong", f"{paths.socket}: {error.strerror}", _elsewhere("RLMD_SOCKET"))
        return
    if not stat.S_ISSOCK(found.st_mode):
        yield Check(name, "wrong", f"{paths.socket} is no socket", _elsewhere("RLMD_SOCKET"))
    elif stat.S_IMODE(found.st_mode) != FILE:
        yield _open_to_others(name, paths.socket, found.st_mode, FILE)
    elif directory != paths.state_dir and above.st_mode & OTHERS_WRITE:
        yield _open_to_others(name, directory, above.st_mode, DIRECTORY)
    else:
        yield Check(name, "ok", f"{paths.socket} is open to you alone")


def _daemon(paths: Paths) -> Iterator[Check]:
    from rlmd import __version__

    name = "daemon"
    try:
        with connect(paths) as client:
            daemon: dict[str, Any] = client.request("status")["daemon"]
    except (DaemonUnreachableError, CommandError) as error:
        yield Check(name, "wrong", str(error), error.mend if error.mend != "rlmctl doctor" else "see above")
        return
    yield Check(name, "ok", f"process {daemon['pid']} answers, agents connected: {daemon['agents']}")
    ours, theirs = __version__, daemon["version"]
    if ours == theirs:
        yield Check("version", "ok", f"{ours}, daemon and rlmctl alike")
    else:
        yield Check("version", "wrong", f"the daemon still runs {theirs}, installed is {ours}", "rlmctl restart")
    if daemon["config"] != str(paths.config):
        meaning = f"the daemon reads {daemon['config']}, this shell means {paths.config}"
        yield Check("daemon's file", "warning", meaning, "set RLMD_CONFIG alike for both, then: rlmctl restart")
    if daemon["config_error"]:
        yield Check("daemon's file", "wrong", f"the daemon refused it: {daemon['config_error']}", "rlmctl reload")
    if daemon["durable"]:
        yield Check("database", "ok", f"{paths.database} is written at every report")
    else:
        meaning = f"{paths.database} cannot be written: a restart would forget what was counted"
        yield Check("database", "wrong", meaning, f"free space on the disk of {paths.state_dir}, then: rlmctl restart")
    yield from _notifications(paths, daemon)
    yield from _agents_without_shim(paths, daemon)


def _notifications(paths: Paths, daemon: dict[str, Any]) -> Iterator[Check]:
    for target in daemon["notify"]:
        waiting = f", waiting: {target['waiting']}" if target["waiting"] else ""
        if target["ok"] is False:
            meaning = f"{target['target']} gets none: {target['error']}{waiting}"
            yield Check("notifications", "wrong", meaning, "mend its address under [notify], then: rlmctl notify test")
        else:
            how = "took the last one" if target["ok"] else "has not been tried since the daemon started"
            yield Check("notifications", "ok", f"{target['target']} {how}{waiting}")
    if os.environ.get("SLACK_WEBHOOK") and not daemon["notify"]:
        meaning = "SLACK_WEBHOOK is set in this shell, and the daemon does not know of it"
        mend = f"rlmctl restart; under systemd write it into {paths.config.parent}/environment before that"
        yield Check("notifications", "warning", meaning, mend)


def _agents_without_shim(paths: Paths, daemon: dict[str, Any]) -> Iterator[Check]:
    from rlmctl.processes import unconnected

    connected = {client["pid"] for client in daemon["clients"] if client["pid"]}
    for process in unconnected("opencode", connected, paths.socket):
        meaning = (
            f"process {process.pid}{f' in {process.directory}' if process.directory else ''} does not ask the daemon"
        )
        yield Check(
            "OpenCode", "warning", meaning, "rlmctl install opencode; then end that OpenCode and start it again"
        )


def _agent(paths: Paths) -> Iterator[Check]:
    from rlmctl.agents import opencode

    for found in opencode.findings(paths, Path.cwd()):
        yield Check(*found)


def _zone() -> Iterator[Check]:
    from rlmd import zones

    name = "time zone"
    written = os.environ.get("TZ", "").removeprefix(":")
    try:
        if written:
            zones.named(written)
    except ValueError as error:
        yield Check(name, "wrong", f"TZ: {error}", "export TZ=Europe/Berlin, or unset TZ")
        return
    yield Check(name, "ok", f"{zones.local(os.environ)}, unless the configuration names another one")


def _open_to_others(name: str, path: Path, mode: int, wanted: int) -> Check:
    return Check(name, "wrong", f"{path} has mode {stat.S_IMODE(mode):04o}", f"chmod {wanted:o} {path}")


def _elsewhere(variable: str) -> str:
    return f"set {variable} to a place of your own, for the daemon and the agent alike"
