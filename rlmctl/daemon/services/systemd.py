"""The daemon as two units of systemd's user manager: a socket, and the service behind it.

Owns `rlmd.socket`, `rlmd.service` and the drop-in of `--strict` in the user's unit directory, and nothing beside
them. The units hold absolute paths as they were resolved here: under systemd nothing is derived again.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlmctl.daemon.services import shipped
from rlmctl.daemon.services.files import change, present, remove_empty
from rlmctl.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rlmd.paths import Paths

SOCKET, SERVICE, STRICT = "rlmd.socket", "rlmd.service", "rlmd.service.d/strict.conf"
LINKS = (f"sockets.target.wants/{SOCKET}", f"default.target.wants/{SERVICE}")
"""What enabling the units leaves in their directory."""
OURS = "# Written by `rlmctl install systemd"
STRICT_SINCE = 254
"""The systemd whose user units may have a view of the files of their own."""
PATIENCE = 30
"""Seconds that systemctl may take: a stop alone may take ten."""
LOOKS, GLANCE = 50, 0.1
"""How often, and seconds apart, to look at a service that is just starting."""
WITHOUT = "rlmctl start  (runs the daemon without a service manager)"


class Systemd(NamedTuple):
    """The user manager that answers here."""

    version: int
    directories: tuple[str, ...]
    """Where it reads units."""


class UserUnits:
    """The units that serve the socket of these paths."""

    name = "systemd"

    def __init__(self, paths: Paths, environ: Mapping[str, str] = os.environ) -> None:
        self._paths = paths
        # Where another service runs us, systemctl would have a word with its manager.
        self._environ = {name: value for name, value in environ.items() if name != "NOTIFY_SOCKET"}
        # An ssh command, cron and su know no XDG_RUNTIME_DIR, and systemctl then finds no manager that is there.
        runtime = Path(f"/run/user/{os.geteuid()}")
        if "XDG_RUNTIME_DIR" not in environ and runtime.is_dir():
            self._environ["XDG_RUNTIME_DIR"] = str(runtime)
        self.directory = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"

    def manager(self) -> Systemd | None:
        """Return the user manager, or None where none answers that reads this home's units."""
        try:
            found = self._show("", "Version", "UnitPath")
        except OSError:
            return None
        version = re.match(r"\d+", found.get("Version", ""))
        directories = tuple(shlex.split(found.get("UnitPath", "")))
        return Systemd(int(version[0]), directories) if version and str(self.directory) in directories else None

    def installed(self) -> bool:
        """Whether units of ours are there and serve this very socket."""
        return self.listen_stream() == _plain(self._paths.socket)

    def listen_stream(self) -> str | None:
        """Return the socket's path as the installed unit writes it, or None where there is none of ours."""
        text = present(self.directory / SOCKET) or ""
        found = re.search(r"^ListenStream=(.*)$", text, re.MULTILINE)
        return found[1] if found and text.startswith(OURS) else None

    def outdated(self) -> list[Path]:
        """Return the installed units that are not what this version would write."""
        return [path for path, text in self._wanted(strict=False).items() if present(path) != text]

    def install(self, *, strict: bool = False, dry_run: bool = False) -> tuple[list[str], bool]:
        """Write and enable the units; return what was done, as sentences, and whether the daemon has to restart.

        Raises `CommandError` where systemd does not run here or the files are somebody else's.
        """
        systemd = self.manager()
        if systemd is None:
            raise CommandError("Here no systemd runs units of yours.", WITHOUT)
        if strict and systemd.version < STRICT_SINCE:
            message = f"--strict needs systemd {STRICT_SINCE} or newer, this is {systemd.version}."
            raise CommandError(message, "rlmctl install systemd")
        wanted = self._wanted(strict=strict)
        self._refuse_strangers(wanted)
        changed = [path for path, text in wanted.items() if present(path) != text]
        done = []
        for path in wanted:
            how = "is up to date" if path not in changed else f"{'would be' if dry_run else 'was'} written"
            done.append(f"{path} {how}.")
        if dry_run:
            done.append(f"{SOCKET} and {SERVICE} would be enabled and started.")
            return done, False
        if self.directory / SOCKET in changed and self.listens():
            self._call("stop", SOCKET, SERVICE)  # under the path that systemd knows
        for path in changed:
            change(path, wanted[path])
        self._call("daemon-reload")
        self._call("enable", "--quiet", SOCKET, SERVICE)
        return done, bool(changed)

    def relax(self) -> None:
        """Take back what `strict` added."""
        path = self.directory / STRICT
        path.unlink(missing_ok=True)
        remove_empty(path.parent, self.directory)
        self._call("daemon-reload")

    def uninstall(self, *, dry_run: bool = False) -> list[str]:
        """Stop and disable the units and remove every trace of them. Returns what was done, as sentences."""
        files = [path for name in (SERVICE, SOCKET, STRICT) if (path := self.directory / name).exists()]
        if not files:
            return [f"There are no units of rlmd in {self.directory}."]
        self._refuse_strangers(files)
        if not dry_run:
            systemd = self.manager()
            if systemd is not None:
                self._call("disable", "--quiet", "--now", SOCKET, SERVICE)
            for path in [*files, *(self.directory / link for link in LINKS)]:
                path.unlink(missing_ok=True)
                remove_empty(path.parent, self.directory.parent.parent)
            if systemd is not None:
                self._call("daemon-reload")
                with suppress(CommandError):  # there is nothing to forgive
                    self._call("reset-failed", SOCKET, SERVICE)
        would = "would be" if dry_run else "was"
        return [f"{SOCKET} and {SERVICE} {would} stopped.", *(f"{path} {would} removed." for path in files)]

    def listens(self) -> bool:
        """Whether systemd holds the socket now."""
        return self.state(SOCKET, "ActiveState").get("ActiveState") == "active"

    def pid(self) -> int | None:
        """Return the daemon's process, or None where it does not run."""
        return int(self.state(SERVICE, "MainPID").get("MainPID", "0")) or None

    def state(self, unit: str, *properties: str) -> dict[str, str]:
        """Return what systemd says of a unit; nothing where it does not answer."""
        try:
            return self._show(unit, *properties)
        except OSError:
            return {}

    def settled(self, *properties: str) -> dict[str, str]:
        """Return what systemd says of the service once it is not just starting, or has said why it cannot.

        In a loop of crashes systemd forgets what the last one said while the next one starts.
        """
        found = self.state(SERVICE, "SubState", "StatusText", *properties)
        for _ in range(LOOKS):
            if found.get("StatusText") or found.get("SubState") not in {"start", "auto-restart"}:
                break
            time.sleep(GLANCE)
            found = self.state(SERVICE, "SubState", "StatusText", *properties)
        return found

    def start(self) -> None:
        """Have the socket served; past failures are forgiven."""
        with suppress(CommandError):  # there is nothing to forgive
            self._call("reset-failed", SOCKET, SERVICE)
        self._call("start", SOCKET, SERVICE)

    def stop(self) -> None:
        """Stop the daemon, and the socket with it."""
        self._call("stop", SOCKET, SERVICE)

    def restart(self) -> None:
        """Replace the daemon behind its socket, which stays."""
        with suppress(CommandError):  # there is nothing to forgive
            self._call("reset-failed", SOCKET, SERVICE)
        self._call("restart", SERVICE)

    def _wanted(self, *, strict: bool) -> dict[Path, str]:
        """Return the units as they should be. A drop-in that is there is kept and brought up to date."""
        names = [SOCKET, SERVICE]
        if strict or (self.directory / STRICT).exists():
            names.append(STRICT)
        return {self.directory / name: render(name, self._paths) for name in names}

    def _refuse_strangers(self, paths: Iterable[Path]) -> None:
        for path in paths:
            text = present(path)
            if text is not None and not text.startswith(OURS):
                raise CommandError(f"{path} is there and was not written by rlmctl.", f"mv {path} {path}.mine")

    def _show(self, unit: str, *properties: str) -> dict[str, str]:
        words = ["show", *([unit] if unit else []), *(f"--property={name}" for name in properties)]
        lines = self._run(words).stdout.splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def _call(self, verb: str, *words: str) -> None:
        """Have systemctl do something. Raises `CommandError` with what the daemon or systemd says of the failure."""
        try:
            run = self._run([verb, *words])
        except OSError as error:
            raise CommandError(f"systemctl cannot be run: {error.strerror}.", WITHOUT) from None
        if run.returncode == 0:
            return
        # The first line of systemctl's own says what failed, the others where to read on.
        why = self.settled().get("StatusText") or run.stderr.strip().partition("\n")[0]
        message = f"`systemctl --user {' '.join([verb, *words])}` failed: {why}"
        raise CommandError(message, "journalctl --user -u rlmd -n 30")

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603  (words of ours)
                ["systemctl", "--user", "--no-pager", *words],  # noqa: S607  (the one of this system)
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"systemd does not answer: `systemctl --user {' '.join(words)}` took over {PATIENCE} s."
            raise CommandError(message, "systemctl --user status") from None


def render(name: str, paths: Paths) -> str:
    """Return a shipped unit with these paths in it. Raises `CommandError` where a unit cannot hold one."""
    values = {
        "PYTHON": sys.executable,
        "CONFIG": paths.config,
        "CONFIG_DIR": paths.config.parent,
        "STATE_DIR": paths.state_dir,
        "SOCKET": paths.socket,
        "SOCKET_DIR": paths.socket.parent,
    }
    for value in map(str, values.values()):
        if not value.isprintable() or value != value.strip():
            raise CommandError(f"A unit cannot hold this path: {value!r}.", "move it to a place with a plain name")
    lines = (shipped("systemd") / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line if line.startswith("#") else _filled(line, values) for line in lines)


def _filled(line: str, values: Mapping[str, object]) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda found: _written(values[found[1]], line), line)


def _written(value: object, line: str) -> str:
    """Write a path as its line wants it: between quotation marks they and the backslash have a meaning."""
    text = str(value)
    return _plain(text.replace("\\", r"\\").replace('"', r"\"")) if '"' in line else _plain(text)


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")
