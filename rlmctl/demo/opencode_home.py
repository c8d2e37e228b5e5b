"""The real OpenCode in a home of its own: it sees loopback providers, and nothing of the person's.

Serves the demo and the end-to-end tests. Tried with 1.18.33.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SWITCHED_OFF = (
    "OPENCODE_DISABLE_MODELS_FETCH",
    "OPENCODE_DISABLE_AUTOUPDATE",
    "OPENCODE_DISABLE_LSP_DOWNLOAD",
    "OPENCODE_DISABLE_SHARE",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS",
    "OPENCODE_DISABLE_CLAUDE_CODE",
    "OPENCODE_DISABLE_EXTERNAL_SKILLS",
    "OPENCODE_DISABLE_TERMINAL_TITLE",
    "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER",
)
"""What would reach out of the home: to the network, to the person's other programs."""
PACKAGES = {"anthropic": "@ai-sdk/anthropic", "openai": "@ai-sdk/openai-compatible"}
"""Wire format → the package that speaks it; both are inside OpenCode's binary."""
RUN_LIMIT = 60.0


def find_opencode(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the program: `$OPENCODE_BIN`, else what the PATH has."""
    return environ.get("OPENCODE_BIN") or shutil.which("opencode")


def provider(wire: str, url: str, models: list[str]) -> dict[str, Any]:
    """Return the entry of a provider in opencode.json. Its key is a word: who listens there wants none."""
    offered = {"limit": {"context": 200_000, "output": 8_000}, "tool_call": True, "cost": {"input": 1, "output": 2}}
    return {
        "npm": PACKAGES[wire],
        "options": {"baseURL": url, "apiKey": "loopback"},
        "models": {model: {"name": model, **offered} for model in models},
    }


def spare_the_download(directory: Path, version: str) -> None:
    """Let OpenCode believe that its plugin package (63 MB) is installed in a directory that it reads plugins from."""
    wanted = {"dependencies": {"@opencode-ai/plugin": version}}
    (directory / "node_modules").mkdir(parents=True)
    (directory / "package.json").write_text(json.dumps(wanted))
    (directory / "package-lock.json").write_text(json.dumps({"packages": {"": wanted}}))


class OpenCodeHome:
    """A home below `directory`. `environment` is what every OpenCode in it runs with.

    The program is asked for its version where that is not given.
    """

    def __init__(
        self, directory: Path, program: str, environment: Mapping[str, str], version: str | None = None
    ) -> None:
        self.directory = directory
        self.program = program
        self.project = directory / "project"
        self.config = directory / "config" / "opencode"
        for place in ("home", "config/opencode", "data", "state", "cache", "tmp", "project"):
            (directory / place).mkdir(parents=True, exist_ok=True)
        catalogue = directory / "models.json"
        catalogue.write_text("{}")
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            **{f"XDG_{name.upper()}_HOME": str(directory / name) for name in ("config", "data", "state", "cache")},
            "OPENCODE_MODELS_PATH": str(catalogue),
            **dict.fromkeys(SWITCHED_OFF, "1"),
            **environment,
        }
        self.version = version or self._ask_for_the_version()
        spare_the_download(self.config, self.version)
        # Without a repository around it OpenCode takes the whole disk for its project.
        subprocess.run(["git", "init", "--quiet"], cwd=self.project, env=self.environment, check=True)  # noqa: S607  (the person's git)

    def configure(self, providers: Mapping[str, Any], model: str, **more: Any) -> None:
        """Write opencode.json: these providers, `model` (`provider/model`) by default, everything allowed."""
        settings = {
            "$schema": "https://opencode.ai/config.json",
            "model": model,
            "provider": dict(providers),
            "share": "disabled",
            "autoupdate": False,
            "permission": {"*": "allow"},
            **more,
        }
        (self.config / "opencode.json").write_text(json.dumps(settings, indent=2))

    def run(self, *arguments: str, limit: float = RUN_LIMIT) -> subprocess.CompletedProcess[str]:
        """Run `opencode run`. Raises `subprocess.TimeoutExpired`."""
        return subprocess.run(  # noqa: S603  (the person's own OpenCode)
            [self.program, "run", *arguments],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def _ask_for_the_version(self) -> str:
        said = subprocess.run(  # noqa: S603  (see above)
            [self.program, "--version"], env=self.environment, capture_output=True, text=True, check=False
        )
        return said.stdout.strip()
