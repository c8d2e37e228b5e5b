"""The story of the demo, told while it happens; each step is checked before the next one is told.

The daemon, the requests, the refusals and the kill are real; the providers are on loopback and say what the
story needs. Who answers a turn, the stand-in or OpenCode, is told nothing of what is coming.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.table import Table

from rlmctl.demo import opencode_home
from rlmctl.demo.providers import Providers
from rlmctl.demo.stage import Stage, StageError
from rlmctl.demo.stand_in import StandIn
from rlmd.client.connection import DaemonRefusedError, DaemonUnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

MODEL = "claude-sonnet-4-5"
WIRES = {"anthropic": "anthropic", "openrouter": "openai", "bedrock": "anthropic"}
"""The three providers, best first, and the wire format that each speaks."""
NAMES = {"anthropic": MODEL, "openrouter": f"anthropic/{MODEL}", "bedrock": MODEL}
WAIT = 60
"""Seconds that anthropic asks for."""

CONFIG = f"""\
[[provider]]
id = "anthropic"
priority = 1
models = ["{MODEL}"]

[[provider]]
id = "openrouter"
priority = 2
# An hourly limit. Rolling, so that the demo does not depend on the minute in which it is watched.
limit = [{{ of = "requests", max = %d, per = "1h", window = "rolling" }}]
models = {{ "{MODEL}" = "{NAMES["openrouter"]}" }}

[[provider]]
id = "bedrock"
priority = 3
models = ["{MODEL}"]
"""


class UntrueError(Exception):
    """A step did not happen as it was to be told."""


class Agent(Protocol):
    """Who has the turns answered."""

    def turn(self, prompt: str) -> str:
        """Return the answer to a prompt, in a new session."""


class OpenCode:
    """The real one, with the shim that `rlmctl install opencode` puts into its home."""

    requests_a_turn = 2
    """Beside the answer it asks for a title of the session."""

    def __init__(self, program: str, stage: Stage, providers: Providers) -> None:
        self.home = opencode_home.OpenCodeHome(stage.directory / "opencode", program, stage.variables)
        entry = opencode_home.provider
        entries = {name: entry(wire, providers.url(name), [NAMES[name]]) for name, wire in WIRES.items()}
        self.home.configure(entries, f"anthropic/{MODEL}")
        subprocess.run(
            [sys.executable, "-m", "rlmctl", "install", "opencode"],
            env=self.home.environment,
            check=True,
            capture_output=True,
        )

    def turn(self, prompt: str) -> str:
        """Run `opencode run` and return what it prints."""
        run = self.home.run(prompt)
        return run.stdout.strip() or f"exit code {run.returncode}: {run.stderr.strip()[-500:]}"


class Story:
    """Tells one step after the other."""

    def __init__(self, screen: Console, stage: Stage, providers: Providers, agent: Agent) -> None:
        self._screen = screen
        self._stage = stage
        self._providers = providers
        self._agent = agent
        self._step = 0

    def tell(self) -> None:
        """Tell all of it. Raises `UntrueError` at the first step that did not happen as told."""
        self._title("A turn, as always.")
        self._turn("Find the failing test.", asks=["anthropic"])

        self._title(f"anthropic limits you: 429, retry-after {WAIT}. The same turn goes on elsewhere.")
        self._providers.behave("anthropic", [f"429:{WAIT}"])
        self._turn("Mend it.", asks=["anthropic", "openrouter"])
        self._notice("switched")

        self._title("The next turn does not even ask anthropic.")
        self._turn("Rename the module.", asks=["openrouter"])

        self._title("openrouter is at the hourly limit you set. No error: the next one serves.")
        self._turn("Write the changelog.", asks=["bedrock"])
        self._notice("exhausted")
        self._notice("switched")

        self._title("What it knows:  rlmctl status --plain")
        before = self._stage.status()
        self._show(before)
        self._expect(before.count("✗ Unavailable"), 2, "providers that cannot serve")

        self._title("kill -9 the daemon, start it again: it still knows.")
        self._stage.kill()
        self._stage.start()
        after = self._stage.status()
        self._expect(after, before, "status after the restart")
        self._line("status", "the same, to the letter", "green")
        self._turn("Thank you.", asks=["bedrock"])

    def _title(self, text: str) -> None:
        self._step += 1
        self._screen.print(f"\n{self._step}. {text}", style="bold")

    def _turn(self, prompt: str, asks: Sequence[str]) -> None:
        """Have one turn answered, show who was asked what, and check that it was these, the last one with success."""
        before = len(self._providers.requests)
        answer = self._agent.turn(prompt).partition(", after")[0]
        asked = [request for request in self._providers.requests[before:] if not request.title]
        self._line("you", prompt)
        for request in asked:
            fine = request.behaviour == "ok"
            said = "200 OK" if fine else f"429 Too Many Requests, retry-after: {request.behaviour.partition(':')[2]}"
            self._line(request.provider, said, "green" if fine else "red")
        self._line("agent", answer)
        self._expect([request.provider for request in asked], list(asks), "providers asked")
        self._expect(f"Hello from {asks[-1]}" in answer, True, f"an answer of {asks[-1]}")

    def _notice(self, event: str) -> None:
        """Show what the daemon told everyone who listens; in OpenCode it is a toast."""
        with self._stage.connect() as daemon:
            told = [told["message"] for told in daemon.request("log")["events"] if told["event"] == event]
        self._expect(bool(told), True, f"a notice of the kind {event!r}")
        self._line("notice", told[-1], "yellow")

    def _line(self, who: str, said: str, style: str = "") -> None:
        """Print one line; what does not fit goes on below its own beginning."""
        grid = Table.grid()
        grid.add_column(width=15)
        grid.add_column()
        grid.add_row(f"   {who}", said, style=style)
        self._screen.print(grid)

    def _show(self, text: str) -> None:
        for line in text.splitlines():
            self._screen.print(f"   {line}".rstrip())

    def _expect(self, happened: object, told: object, what: str) -> None:
        if happened != told:
            raise UntrueError(f"{what}: {told!r} was to be, {happened!r} is")


def tell(program: str | None, screen: Console) -> bool:
    """Tell the story with OpenCode, if this is its program, else with the stand-in. Return whether it was true."""
    begun = time.monotonic()
    agents = OpenCode if program else StandIn
    # The second turn's answer and all of the third use it up.
    config = CONFIG % (1 + agents.requests_a_turn)
    who = "the real OpenCode" if program else "a stand-in for an agent"
    screen.print(f"A real daemon, {who}, three providers on loopback; no key.")
    try:
        with Providers() as providers, Stage(config) as stage:
            if program:
                agent: Agent = OpenCode(program, stage, providers)
            else:
                agent = StandIn(stage.connect, providers.url, WIRES, "anthropic", MODEL)
            try:
                Story(screen, stage, providers, agent).tell()
            except UntrueError:
                screen.print(f"\nThe daemon's log:\n{stage.last_lines()}", style="bright_black")
                raise
    except (UntrueError, StageError, DaemonRefusedError, DaemonUnreachableError) as error:
        screen.print(f"\n✗ This did not happen as told. {error}", style="red")
        return False
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        screen.print(f"\n✗ OpenCode could not be used: {error}", style="red")
        return False
    screen.print(f"\n✓ All of this really happened, in {time.monotonic() - begun:.1f} s.", style="green")
    screen.print("  For your own agent:  rlmctl setup")
    return True
