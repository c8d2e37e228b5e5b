"""The story of the demo, told while it happens; each step is checked before the next one is told.

The daemon, the requests, the answers and the kill are real; the providers are on loopback and say what the
story needs. Whoever answers a turn (the stand-in or OpenCode) is told nothing of what is coming.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rlmctl.client import DaemonRefusedError, DaemonUnreachableError
from rlmctl.demo.opencode_home import OpenCodeHome, provider
from rlmctl.demo.providers import Providers
from rlmctl.demo.stage import Stage, StageError
from rlmctl.demo.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "claude-sonnet-4-5"
WIRES = {"anthropic": "anthropic", "openrouter": "openai", "bedrock": "anthropic"}
"""The three providers, best first, and the wire format that each speaks."""
NAMES = {"anthropic": MODEL, "openrouter": f"anthropic/{MODEL}", "bedrock": MODEL}
WAIT = 60
"""Seconds that anthropic asks for."""


class UntrueError(Exception):
    """A step did not happen as it was to be told."""


class Agent(Protocol):
    """Who has the turns answered."""

    def turn(self, prompt: str) -> str:
        """Return the answer to a prompt."""


class OpenCode:
    """The real one, with the shim that `rlmctl install opencode` puts into its home."""

    uses_title = 1
    """It asks for a title beside the first answer of a session: one more request a turn."""

    def __init__(self, program: str, stage: Stage, providers: Providers) -> None:
        self._home = OpenCodeHome(stage.directory / "opencode", program, stage.variables)
        entries = {name: provider(wire, providers.url(name), [NAMES[name]]) for name, wire in WIRES.items()}
        self._home.configure(entries, f"anthropic/{MODEL}")
        install = [sys.executable, "-m", "rlmctl", "install", "opencode"]
        subprocess.run(install, env=self._home.environment, check=True, capture_output=True)

    def turn(self, prompt: str) -> str:
        """Run `opencode run` and return what it prints."""
        run = self._home.run(prompt)
        return run.stdout.strip() or f"exit code {run.returncode}: {run.stderr.strip()[-500:]}"
