"""A person with a systemd of their own: the session, commands in it, and rlmctl as they would call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmd.client.connection import Client
from rlmd.paths import Paths, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ORDINARY = 61234
"""A user that no machine has."""
SOON = 20.0
"""Real seconds in which something has to happen; it takes a fraction."""
MODEL = "sonnet"
CONFIG = f"""\
time_zone = "UTC"
[[provider]]
id = "anthropic"
priority = 1
models = ["{MODEL}"]
hourly_limit = 50
"""
INSIDE = """\
import json, subprocess, sys
for line in sys.stdin:
    call = json.loads(line)
    try:
        run = subprocess.run(call["words"], env=call["environ"], cwd=call["cwd"], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, check=False, timeout=90)
        print(json.dumps([run.returncode, run.stdout, run.stderr]), flush=True)
    except subprocess.TimeoutExpired as error:
        print(json.dumps([124, "", str(error)]), flush=True)
"""
"""What runs in the session: it does what it is told, a command a line."""


def why_not() -> str | None:
    """Say why this machine cannot have such a session; None where it can."""
    if sys.platform != "linux":
        return "there is systemd on Linux only"
    if os.geteuid() != 0:
        return "only root can make a session of another user (sudo)"
    missing = [word for word in ("systemctl", "dbus-daemon", "unshare", "setpriv") if shutil.which(word) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"{', '.join(missing) or 'systemd'} is not installed"
    run = subprocess.run(["findmnt", "--types", "cgroup2"], stdout=subprocess.DEVNULL, check=False)
    return "no cgroup2 is mounted" if run.returncode else None


REASON = why_not()


class Run(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Person:
    """A session; close it when done."""

    def __init__(self, *, journal: bool = False) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="rlmd home "))  # a person may well have a space in a path
        python = self._interpreter = _interpreter()
        self.uid = ORDINARY if python else 0  # where only root may enter our interpreter's directory, and has no other
        self.python = _environment(self.home, python) if python else Path(sys.executable)
        _give(self.home, self.uid)
        self._session = subprocess.Popen(
            [HERE / "with-user-manager.sh", self.home, str(self.uid), python or sys.executable, "-c", INSIDE],
            env=os.environ | {"JOURNAL": str(int(journal))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "XDG_RUNTIME_DIR": f"/run/user/{self.uid}",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{self.uid}/bus",
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
        }
        self.units = self.home / ".config" / "systemd" / "user"
        self.write(self.paths.config, CONFIG)

    @property
    def paths(self) -> Paths:
        state = self.home / ".local" / "state" / "rlmd"
        return resolve(
            {"RLMD_CONFIG": str(self.home / ".config" / "rlmd" / "config.toml"), "RLMD_STATE_DIR": str(state)}
        )

    def write(self, path: Path, text: str) -> None:
        """Write a file as the person would."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        _give(self.home, self.uid)

    def installation(self, name: str, checkout: Path) -> Path:
        """Install another version at home; return its interpreter."""
        python = _environment(self.home, self._interpreter or Path(sys.executable), name, checkout)
        _give(self.home, self.uid)
        return python

    def run(self, *words: str | Path, **environ: str) -> Run:
        """Run a command in the session."""
        call = {"words": [str(word) for word in words], "environ": self.environ | environ, "cwd": str(self.home)}
        assert self._session.stdin
        assert self._session.stdout
        self._session.stdin.write(json.dumps(call) + "\n")
        self._session.stdin.flush()
        answer = self._session.stdout.readline()
        assert answer, "the session ended"
        return Run(*json.loads(answer))

    def fine(self, *words: str | Path, **environ: str) -> str:
        """Run a command that has to succeed; return what it printed."""
        run = self.run(*words, **environ)
        assert run.code == 0, (words, run)
        return run.out

    def ctl(self, *words: str, **environ: str) -> Run:
        """Call rlmctl."""
        return self.run(self.python, "-m", "rlmctl", *words, **environ)

    def systemctl(self, *words: str) -> str:
        return self.fine("systemctl", "--user", *words)

    def show(self, unit: str, name: str) -> str:
        """Look one property of a unit up."""
        return self.systemctl("show", unit, f"--property={name}", "--value").strip()

    def journal(self, *matches: str) -> list[dict[str, str]]:
        """Read the entries of the session's journal that have these fields."""
        files = "/run/log/journal/*/system.journal"
        lines = self.fine("journalctl", f"--file={files}", "--output=json", "--no-pager", "--quiet", *matches)
        return [json.loads(line) for line in lines.splitlines()]

    def doctor(self) -> dict[str, dict[str, str]]:
        """Return what doctor says, by the name of the check; where a name comes twice, the worse."""
        checks: list[dict[str, str]] = json.loads(self.ctl("doctor", "--json").out)["checks"]
        worse = ("ok", "warning", "wrong")
        return {check["name"]: check for check in sorted(checks, key=lambda check: worse.index(check["state"]))}

    def client(self, deadline: float = SOON) -> Client:
        """Connect from outside: the file system is the same."""
        return Client(self.paths.socket, deadline)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        with self.client() as client:
            return client.request(op, **fields)

    def pid(self) -> int:
        """Return the daemon's process as the session counts, 0 where there is none."""
        return int(self.show("rlmd.service", "MainPID"))

    def kill(self) -> int:
        """End the daemon as a crash does, once it runs; return its process."""
        eventually(self.pid)
        pid = self.pid()
        self.systemctl("kill", "--signal=KILL", "rlmd.service")
        return pid

    def close(self) -> None:
        assert self._session.stdin
        assert self._session.stdout
        self._session.stdin.close()
        self._session.wait(SOON)
        self._session.stdout.close()
        shutil.rmtree(self.home)


def eventually(is_so: Callable[[], object], within: float = SOON) -> None:
    """Wait until something is so."""
    until = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < until, "it did not come to be so"
        time.sleep(0.05)


def _interpreter() -> Path | None:
    """Return a Python of our version that every user may run, if every user may read this checkout, too."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not all(map(_is_open, [CHECKOUT, *_packages()])):
        return None
    places = (sys.executable, shutil.which(version, path=os.defpath), f"/usr/bin/{version}")
    return next((Path(place) for place in places if place and _is_open(Path(place))), None)


def _is_open(path: Path) -> bool:
    """Whether every user may go there."""
    return path.exists() and all(above.stat().st_mode & 0o001 for above in path.resolve().parents)


def _packages() -> list[Path]:
    return [Path(path) for path in sys.path if path.endswith("site-packages")]


def _environment(home: Path, python: Path, name: str = "env", checkout: Path = CHECKOUT) -> Path:
    """Make an environment at home that sees a checkout and what this one sees; return its interpreter."""
    environment = home / name
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = (environment / "lib").glob("python*/site-packages")
    packages.joinpath("ours.pth").write_text("\n".join(map(str, [checkout, *_packages()])))
    return environment / "bin" / "python"


def _give(root: Path, uid: int) -> None:
    for path in (root, *root.rglob("*")):
        os.lchown(path, uid, uid)
