"""A person with nothing but a home of their own: rlmctl as they would call it, a real daemon where one is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from rlmd.client.connection import Client, DaemonUnreachableError
from rlmd.paths import Paths, resolve

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "claude-sonnet-4-5"
CONFIG = f"""\
[[provider]]
id = "anthropic"
priority = 1
models = ["{MODEL}"]
hourly_limit = 50
daily_limit = 1000

[[provider]]
id = "openrouter"
priority = 2
hourly_limit = 100
[provider.models]
"{MODEL}" = "anthropic/claude-sonnet-4.5"
"""


class Place:
    """Directories of a person who owns nothing else: no agent, no service manager, no variables."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.environ = {
            "HOME": str(self.home),
            "PATH": str(root / "nothing"),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "RLMD_CONFIG": str(root / "config.toml"),
            "RLMD_STATE_DIR": str(root / "state"),
        }
        self.paths: Paths = resolve(self.environ)

    def write_config(self, text: str = CONFIG) -> None:
        self.paths.config.write_text(text)

    def ctl(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rlmctl", *arguments],
            env=self.environ | environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ctl_json(self, *arguments: str) -> Any:
        run = self.ctl(*arguments, "--json")
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    def connect(self) -> Client:
        return Client(self.paths.socket)

    def status(self) -> dict[str, Any]:
        with self.connect() as client:
            return client.request("status")

    def answers(self) -> bool:
        try:
            with self.connect() as client:
                client.request("ping")
        except DaemonUnreachableError:
            return False
        return True


class Daemon(Place):
    """The same with `python -m rlmd` running in it."""

    process: subprocess.Popen[bytes]

    def begin(self) -> None:
        self.paths.state_dir.mkdir(mode=0o700, exist_ok=True)
        with self.paths.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rlmd"], env=self.environ, cwd=self.home, stdout=log, stderr=log
            )
        until = time.monotonic() + 20
        while not self.answers():
            assert self.process.poll() is None, self.paths.log.read_text()
            assert time.monotonic() < until, self.paths.log.read_text()
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
