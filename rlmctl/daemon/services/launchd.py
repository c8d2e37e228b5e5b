"""The daemon as a LaunchAgent of macOS: launchd holds the socket and starts the daemon behind it.

Owns `dev.rlmd.plist` in the user's LaunchAgents. What is here was written from launchd's documentation and has not
yet run on macOS.
"""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.daemon.services import shipped
from rlmctl.daemon.services.files import change, present
from rlmctl.errors import CommandError

if TYPE_CHECKING:
    from rlmd.paths import Paths

LABEL = "dev.rlmd"
FILE = f"{LABEL}.plist"
PATIENCE = 30
"""Seconds that launchctl may take."""
WITHOUT = "rlmctl start  (runs the daemon without a service manager)"


class LaunchAgent:
    """The agent that serves the socket of these paths."""

    name = "launchd"

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.path = Path.home() / "Library" / "LaunchAgents" / FILE
        self._domain = f"gui/{os.getuid()}"

    def installed(self) -> bool:
        """Whether an agent of ours is there and serves this very socket."""
        return self.listen_path() == str(self._paths.socket)

    def listen_path(self) -> str | None:
        """Return the socket's path as the installed agent has it, or None where there is none of ours."""
        try:
            found: dict[str, Any] = plistlib.loads((present(self.path) or "").encode())
            return str(found["Sockets"]["Listener"]["SockPathName"]) if found["Label"] == LABEL else None
        except (plistlib.InvalidFileException, ValueError, KeyError, TypeError):
            return None

    def outdated(self) -> list[Path]:
        """Return the installed file if it is not what this version would write."""
        return [] if present(self.path) == render(self._paths) else [self.path]

    def install(self, *, strict: bool = False, dry_run: bool = False) -> tuple[list[str], bool]:
        """Write the agent; return what was done, as sentences, and whether the daemon has to restart.

        Raises `CommandError` where launchd does not run here, or for `strict`, which is systemd's.
        """
        if strict:
            raise CommandError("--strict is systemd's.", "rlmctl install launchd")
        if sys.platform != "darwin" and not dry_run:
            raise CommandError("launchd is macOS's; this is another system.", WITHOUT)
        wanted = render(self._paths)
        if not self.outdated():
            return [f"{self.path} is up to date."], False
        if dry_run:
            return [f"{self.path} would be written.", f"{LABEL} would be loaded."], False
        if self.listens():
            self.stop()  # launchd reads a file when it loads it, not later
        # launchd makes no directories.
        self._paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._paths.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        change(self.path, wanted)
        return [f"{self.path} was written."], True

    def uninstall(self, *, dry_run: bool = False) -> list[str]:
        """Unload the agent and remove every trace of it. Returns what was done, as sentences."""
        if present(self.path) is None:
            return [f"There is no {self.path}."]
        would = "would be" if dry_run else "was"
        if not dry_run:
            if self.listens():
                self.stop()
            self.path.unlink()
            self._paths.socket.unlink(missing_ok=True)
        return [f"{LABEL} {would} unloaded.", f"{self.path} {would} removed."]

    def listens(self) -> bool:
        """Whether launchd holds the socket now."""
        return self._print() is not None

    def pid(self) -> int | None:
        """Return the daemon's process, or None where it does not run."""
        found = re.search(r"^\s*pid = (\d+)$", self._print() or "", re.MULTILINE)
        return int(found[1]) if found else None

    def start(self) -> None:
        """Have the socket served."""
        if not self.listens():
            self._call("bootstrap", self._domain, str(self.path))
        self._call("kickstart", f"{self._domain}/{LABEL}")

    def stop(self) -> None:
        """Stop the daemon, and the socket with it."""
        self._call("bootout", f"{self._domain}/{LABEL}")

    def restart(self) -> None:
        """Replace the daemon behind its socket, which stays."""
        if not self.listens():
            self._call("bootstrap", self._domain, str(self.path))
        self._call("kickstart", "-k", f"{self._domain}/{LABEL}")

    def _print(self) -> str | None:
        try:
            run = self._run("print", f"{self._domain}/{LABEL}")
        except OSError:
            return None
        return run.stdout if run.returncode == 0 else None

    def _call(self, *words: str) -> None:
        try:
            run = self._run(*words)
        except OSError as error:
            raise CommandError(f"launchctl cannot be run: {error.strerror}.", WITHOUT) from None
        if run.returncode:
            message = f"`launchctl {' '.join(words)}` failed: {run.stderr.strip()}"
            raise CommandError(message, f"tail {self._paths.log}")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603  (words of ours)
                ["launchctl", *words],  # noqa: S607  (the one of this system)
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"launchd does not answer: `launchctl {' '.join(words)}` took over {PATIENCE} s."
            raise CommandError(message, WITHOUT) from None


def render(paths: Paths) -> str:
    """Return the shipped agent with these paths in it."""
    values = {
        "@PYTHON@": sys.executable,
        "@CONFIG@": str(paths.config),
        "@STATE_DIR@": str(paths.state_dir),
        "@SOCKET@": str(paths.socket),
        "@LOG@": str(paths.log),
    }
    template = plistlib.loads((shipped("launchd") / FILE).read_bytes())
    return plistlib.dumps(_filled(template, values)).decode()


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return values.get(value, value) if isinstance(value, str) else value
